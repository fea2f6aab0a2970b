#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "svg_text.hpp"

// What a picture shows, and how each of its series looks; svg_chart.hpp draws it. Colours are such that people of all kinds of
// colour vision tell them apart (after Okabe and Ito, "Color Universal Design", without their yellow), and shapes or dashes
// tell them apart once more.

namespace cli::chart {

struct Point {
    double x = 0, y = 0;
};

struct Range {
    double low = 0, high = 1;
};

enum class Kind {
    Marks,  ///< a mark at each point
    Line,   ///< the points joined in their order
    Level,  ///< a dashed line across the panel at the first point's y
};

struct Series {
    std::string name;
    Kind kind = Kind::Marks;
    std::vector<Point> points;
    bool reference = false;  ///< drawn in the colour of the text: what the others are compared with
};

struct Panel {
    std::string title, x_label, y_label;
    std::vector<Series> series;
    std::size_t legend = 0;                  ///< which of the picture's legends names the series; equal names there look alike
    std::vector<double> show_x{}, show_y{};  ///< values that the axes reach even where no point does
    bool whole_x = false;                    ///< ticks at whole numbers
};

struct Row {
    std::string heading;  ///< may be empty
    std::vector<Panel> panels;
};

struct Picture {
    std::string title, description;
    std::vector<Row> rows;
    std::vector<std::string> legends;  ///< headings
};

/// The ticks of an axis: at multiples of 1, 2 or 5 times a power of ten, the range widened to the outermost ones.
struct Axis {
    Range range;
    double step = 1;
    std::size_t steps = 1;

    [[nodiscard]] double tick(std::size_t i) const noexcept { return range.low + static_cast<double>(i) * step; }
    [[nodiscard]] int digits() const noexcept { return (std::max)(0, static_cast<int>(std::ceil(-std::log10(step) - 1e-9))); }
    [[nodiscard]] double share(double value) const noexcept { return (value - range.low) / (range.high - range.low); }
};

/// An axis that shows low to high, both finite, in about `wanted` steps.
[[nodiscard]] inline Axis make_axis(double low, double high, std::size_t wanted, bool whole) {
    const double least = whole ? 1.0 : (std::max)({std::abs(low), std::abs(high), 1e-6}) * 1e-6;
    if (high - low < least) {  // one value: some room around it
        const double room = whole ? 1.0 : (std::max)(std::abs(low) * 0.05, least);
        low -= room;
        high += room;
    }
    const double raw = (high - low) / static_cast<double>(wanted), power = std::pow(10.0, std::floor(std::log10(raw)));
    double step = 10 * power;
    for (const double factor : {5.0, 2.0, 1.0}) {
        if (factor * power >= raw * 0.999) step = factor * power;
    }
    if (whole) step = (std::max)(1.0, std::round(step));
    Axis axis;
    axis.step = step;
    axis.range = {std::floor(low / step + 1e-9) * step, std::ceil(high / step - 1e-9) * step};
    axis.steps = static_cast<std::size_t>(std::lround((axis.range.high - axis.range.low) / step));
    return axis;
}

namespace detail {

inline constexpr double largest = 1e9;  // what an axis still has room for

/// A contrast of 3 or more with the light and with the dark background.
inline constexpr std::array<std::string_view, 7> colours{"#0b79c4", "#d55e00", "#009e73", "#c463a0",
                                                         "#b98000", "#3797c8", "#8a6fdf"};
inline constexpr std::array<std::string_view, 4> dashes{"", "7 3", "2 3", "9 3 2 3"};
inline constexpr std::array<std::string_view, 8> shapes{
    "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0z",                         // circle
    "M0,-6.5l6.5,6.5l-6.5,6.5l-6.5,-6.5z",                           // diamond
    "M0,-6l6,10.5h-12z",                                             // triangle
    "M-4.7,-4.7h9.4v9.4h-9.4z",                                      // square
    "M0,6l6,-10.5h-12z",                                             // triangle, down
    "M-1.7,-5.5h3.4v3.8h3.8v3.4h-3.8v3.8h-3.4v-3.8h-3.8v-3.4h3.8z",  // plus
    "M-5.8,0l2.9,-5h5.8l2.9,5l-2.9,5h-5.8z",                         // hexagon
    "M-2.4,-5.1l2.4,2.4l2.4,-2.4l2.7,2.7l-2.4,2.4l2.4,2.4l-2.7,2.7l-2.4,-2.4l-2.4,2.4l-2.7,-2.7l2.4,-2.4l-2.4,-2.4z"};  // cross

/// How a series looks.
struct Style {
    std::string colour;  ///< an attribute, with its value
    std::string_view dash, shape;
};

/// One name of a legend.
struct Entry {
    std::string name;
    Kind kind;
    Style style;
};

using Legend = std::vector<Entry>;

[[nodiscard]] inline const Entry* find(const Legend& legend, std::string_view name) {
    const auto found = std::find_if(legend.begin(), legend.end(), [&](const Entry& entry) { return entry.name == name; });
    return found == legend.end() ? nullptr : &*found;
}

/// Every name once, in the order of its first appearance.
[[nodiscard]] inline std::vector<Legend> make_legends(const Picture& picture) {
    std::vector<Legend> legends(picture.legends.size());
    std::vector<std::array<std::size_t, 2>> used(legends.size(), {0, 0});  // styles: of the others, of the references
    for (const Row& row : picture.rows) {
        for (const Panel& panel : row.panels) {
            for (const Series& series : panel.series) {
                if (find(legends[panel.legend], series.name) != nullptr) continue;
                const std::size_t i = used[panel.legend][series.reference ? 1 : 0]++;
                Style style{std::string("class=\"reference\""), dashes[1], shapes[(i + 5) % shapes.size()]};
                if (!series.reference) {
                    style.colour = "stroke=\"" + std::string(colours[i % colours.size()]) + "\" fill=\"" +
                                   std::string(colours[i % colours.size()]) + "\"";
                    style.dash = dashes[i / colours.size() % dashes.size()];
                    style.shape = shapes[i % shapes.size()];
                }
                legends[panel.legend].push_back({series.name, series.kind, std::move(style)});
            }
        }
    }
    return legends;
}

/// Throws where there is nothing to draw, or numbers that are none.
inline void check(const Picture& picture) {
    using adainfer::ErrorCode;
    std::size_t points = 0;
    for (const Row& row : picture.rows) {
        for (const Panel& panel : row.panels) {
            if (panel.legend >= picture.legends.size())
                adainfer::fail(ErrorCode::InvalidArgument, "panel '", panel.title, "' names no legend");
            for (const Series& series : panel.series) {
                for (const Point& point : series.points) {
                    for (const double value : {point.x, point.y}) {
                        if (!std::isfinite(value)) {
                            adainfer::fail(ErrorCode::NotFinite, "panel '", panel.title, "', series '", series.name, "': ", value,
                                           " cannot be drawn");
                        }
                        if (std::abs(value) > largest) {
                            adainfer::fail(ErrorCode::InvalidArgument, "panel '", panel.title, "', series '", series.name,
                                           "': ", value, " is too large to be drawn");
                        }
                    }
                }
                points += series.points.size();
            }
        }
    }
    if (points == 0) adainfer::fail(ErrorCode::InvalidArgument, "there is nothing to draw");
}

}  // namespace detail

}  // namespace cli::chart
