#include <algorithm>
#include <cstddef>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "adainfer/io/atomic_file.hpp"
#include "adainfer/io/json_reader.hpp"
#include "command.hpp"
#include "svg_chart.hpp"

namespace cli {

namespace {

using adainfer::ErrorCode;
using Field = adainfer::detail::json::Field;

constexpr std::size_t max_bytes = std::size_t{64} << 20U, max_layers = 100'000;
constexpr std::size_t policies_legend = 0, tasks_legend = 1;

struct PlotOptions {
    std::string results, trace, title = "Accuracy and depth", output;
};

/// A policy's means over the tasks.
struct Mean {
    std::string policy;
    double accuracy = 0, dense = 0, layers = 0;
    std::set<std::string> tasks;
};

/// The rows of `adainfer evaluate --json`, a mean a policy. Throws CorruptFile where a policy lacks a task that another has:
/// their means could not be compared.
std::vector<Mean> read_means(const Field& rows, std::size_t& depth) {
    std::vector<Mean> means;
    for (const Field& row : rows.elements()) {
        const std::string& policy = row.at("policy").text();
        auto mean = std::find_if(means.begin(), means.end(), [&](const Mean& other) { return other.policy == policy; });
        if (mean == means.end()) mean = means.insert(means.end(), Mean{policy, 0, 0, 0, {}});
        if (!mean->tasks.insert(row.at("task").text()).second) row.at("task").wrong("another task in each row of a policy");
        mean->accuracy += 100 * row.at("accuracy").number();
        mean->dense += 100 * row.at("accuracy_dense").number();
        mean->layers += row.at("mean_layers").number();
        depth = (std::max)(depth, row.at("layers").count(max_layers));
    }
    if (means.empty()) rows.wrong("an array with a row or more");
    for (Mean& mean : means) {
        if (mean.tasks != means.front().tasks)
            rows.wrong("of the same tasks for '" + mean.policy + "' as for '" + means.front().policy + "'");
        const auto n = static_cast<double>(mean.tasks.size());
        mean.accuracy /= n;
        mean.dense /= n;
        mean.layers /= n;
    }
    return means;
}

chart::Panel accuracy_panel(const Field& rows) {
    std::size_t depth = 0;
    const std::vector<Mean> means = read_means(rows, depth);
    const std::size_t tasks = means.front().tasks.size();
    chart::Panel panel;
    panel.title =
        tasks == 1 ? "Accuracy, " + *means.front().tasks.begin() : "Accuracy, mean of " + std::to_string(tasks) + " tasks";
    panel.x_label = "mean layers run, of " + std::to_string(depth);
    panel.y_label = "accuracy, %";
    panel.legend = policies_legend;
    panel.show_x = {static_cast<double>(depth)};
    panel.whole_x = true;
    panel.series.push_back({"dense", chart::Kind::Level, {{static_cast<double>(depth), means.front().dense}}, true});
    for (const Mean& mean : means) {
        if (mean.policy == "dense") continue;  // the line
        const bool fixed = mean.policy.starts_with("fixed") || mean.policy.starts_with("best fixed");
        panel.series.push_back({mean.policy, chart::Kind::Marks, {{mean.layers, mean.accuracy}}, fixed});
    }
    return panel;
}

/// One line a task from `adainfer trace --task ... --json`, or one line from `adainfer trace --prompt ... --json`.
chart::Panel trace_panel(const Field& trace, const std::string& field, const std::string& title) {
    chart::Panel panel;
    panel.title = title;
    panel.x_label = "layers run, read through the " + trace.at("lens").text() + " lens";
    panel.y_label = "probability";
    panel.legend = tasks_legend;
    panel.show_x = {static_cast<double>(trace.at("layers").count(max_layers))};
    panel.show_y = {0, 1};
    panel.whole_x = true;
    const auto add = [&](const std::string& name, const Field& rows) {
        std::vector<chart::Point> points;
        for (const Field& row : rows.elements()) {
            points.push_back({static_cast<double>(row.at("layer").count(max_layers)), row.at(field).number()});
        }
        panel.series.push_back({name, chart::Kind::Line, std::move(points)});
    };
    if (const auto tasks = trace.find("tasks")) {
        for (const Field& task : tasks->elements()) add(task.at("task").text(), task.at("rows"));
    } else {
        add("the prompt", trace.at("rows"));
    }
    return panel;
}

chart::Row make_row(const std::string& heading, const Field& rows, const Field* trace) {
    chart::Row row{heading, {accuracy_panel(rows)}};
    if (trace != nullptr) {
        row.panels.push_back(trace_panel(*trace, "gap", "Gap, mean over prompts"));
        row.panels.push_back(trace_panel(*trace, "top_prob", "Top probability, mean over prompts"));
    }
    return row;
}

void plot(const PlotOptions& options) {
    const auto results = adainfer::detail::json::parse_file(options.results, max_bytes);
    const Field root(results.root(), options.results);
    chart::Picture picture{options.title,
                           "Accuracy of exit policies against the layers they run, with the dense model as a dashed line"
                           "; gap and top probability of the next token after each layer.",
                           {},
                           {"Policies", "Tasks"}};
    if (root.is_array()) {
        adainfer::detail::json::Document document;
        if (!options.trace.empty()) document = adainfer::detail::json::parse_file(options.trace, max_bytes);
        const Field trace(document.root(), options.trace);
        picture.rows.push_back(make_row("", root, options.trace.empty() ? nullptr : &trace));
    } else {
        if (!options.trace.empty())
            throw UsageError("--trace goes with the rows of one model; '" + options.results + "' has its own traces");
        for (const Field& model : root.at("models").elements()) {
            const auto trace = model.find("trace");
            picture.rows.push_back(make_row(model.at("name").text(), model.at("rows"), trace ? &*trace : nullptr));
        }
    }
    adainfer::write_file_atomically(options.output, chart::to_svg(picture));
    std::cout << "wrote " << options.output << "\n";
}

}  // namespace

void add_plot(CLI::App& app, const Context&) {
    auto* command =
        app.add_subcommand("plot", "A picture (SVG) of accuracy against layers run, and of gap and top probability over depth");
    auto options = std::make_shared<PlotOptions>();
    command->add_option("RESULTS", options->results, "what `evaluate --json` printed, or the file of examples/table.py")
        ->required()
        ->type_name("RESULTS.json");
    command->add_option("--trace", options->trace, "what `trace --json` printed: two more panels")->type_name("TRACE.json");
    command->add_option("--title", options->title, "of the picture")->capture_default_str()->type_name("S");
    command->add_option("-o,--output", options->output, "the picture")->required()->type_name("PICTURE.svg");
    command->callback([options] { plot(*options); });
}

}  // namespace cli
