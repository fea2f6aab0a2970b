#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "svg_picture.hpp"
#include "svg_text.hpp"

// Draws a picture as SVG text, without a plotting library: panels in rows, one legend below the other at the foot. It stands with
// the command line and not in the library, since no program that runs a model needs it. The picture brings its own background,
// light or dark as the viewer prefers, and is as high as its legends need.

namespace cli::chart {

namespace detail {

inline constexpr double margin = 24, gap = 22, plot_height = 216, left = 58, right = 10, above = 30, below = 46;
inline constexpr double title_font = 17, heading_font = 14, font = 12, line = 20, sample = 34;
inline constexpr double least_width = 640, panel_width = 320;

inline constexpr std::string_view stylesheet =
    "<style>\n"
    "text{font-family:system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;font-size:12px;fill:#1f2328;stroke:none}\n"
    ".paper{fill:#ffffff;stroke:#d1d9e0}.grid{stroke:#e3e8ed}.axis{stroke:#59636e;fill:none}.faint{fill:#59636e}\n"
    ".reference{stroke:#1f2328;fill:#1f2328}.title{font-size:17px;font-weight:600}.heading{font-size:14px;font-weight:600}\n"
    "@media (prefers-color-scheme:dark){text{fill:#e6edf3}.paper{fill:#0d1117;stroke:#30363d}.grid{stroke:#262c34}\n"
    ".axis{stroke:#9198a1}.faint{fill:#9198a1}.reference{stroke:#e6edf3;fill:#e6edf3}}\n"
    "</style>\n";

/// Appends elements to the text of a picture.
class Pen {
  public:
    void raw(std::string_view text) { out_ += text; }

    /// `more`: further attributes, as they stand in the file.
    void text(double x, double y, std::string_view content, std::string_view anchor = "start", std::string_view more = {}) {
        out_ += "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" text-anchor=\"" + std::string(anchor) + "\" " +
                std::string(more) + ">" + escaped(content) + "</text>\n";
    }

    void stroke(Point from, Point to, std::string_view attributes) {
        out_ += "<line x1=\"" + number(from.x) + "\" y1=\"" + number(from.y) + "\" x2=\"" + number(to.x) + "\" y2=\"" +
                number(to.y) + "\" " + std::string(attributes) + "/>\n";
    }

    void mark(Point at, const Style& style, std::string_view title) {
        out_ += "<path d=\"" + std::string(style.shape) + "\" transform=\"translate(" + number(at.x) + " " + number(at.y) +
                ")\" " + style.colour + " fill-opacity=\"0.35\" stroke-width=\"1.6\" stroke-linejoin=\"round\">" + titled(title) +
                "</path>\n";
    }

    /// The points joined; a point without neighbours as a dot.
    void path(const std::vector<Point>& points, const Style& style, std::string_view title) {
        std::string corners;
        for (const Point& point : points) corners += (corners.empty() ? "" : " ") + number(point.x) + "," + number(point.y);
        if (points.size() == 1) {
            out_ += "<circle cx=\"" + number(points[0].x) + "\" cy=\"" + number(points[0].y) + "\" r=\"3\" " + style.colour +
                    ">" + titled(title) + "</circle>\n";
        } else {
            out_ += "<g " + style.colour + "><polyline points=\"" + corners +
                    "\" style=\"fill:none\" stroke-width=\"1.8\" stroke-linejoin=\"round\"" + dashed(style) + ">" +
                    titled(title) + "</polyline></g>\n";
        }
    }

    [[nodiscard]] static std::string dashed(const Style& style) {
        return style.dash.empty() ? std::string() : " stroke-dasharray=\"" + std::string(style.dash) + "\"";
    }

    [[nodiscard]] const std::string& finished() const noexcept { return out_; }

  private:
    [[nodiscard]] static std::string titled(std::string_view text) { return "<title>" + escaped(text) + "</title>"; }

    std::string out_;
};

/// Where the plot of a panel lies, in pixels.
struct Plot {
    double x, y, width, height;
    Axis across, up;

    [[nodiscard]] Point at(const Point& point) const noexcept {
        return {x + across.share(point.x) * width, y + height - up.share(point.y) * height};
    }
};

[[nodiscard]] inline Plot make_plot(const Panel& panel, double x, double y, double width) {
    Range across{1e300, -1e300}, up = across;
    const auto widen = [](Range& range, double value) { range = {(std::min)(range.low, value), (std::max)(range.high, value)}; };
    for (const Series& series : panel.series) {
        for (const Point& point : series.points) {
            if (series.kind != Kind::Level) widen(across, point.x);
            widen(up, point.y);
        }
    }
    for (const double value : panel.show_x) widen(across, value);
    for (const double value : panel.show_y) widen(up, value);
    if (across.low > across.high) across = {};
    if (up.low > up.high) up = {};
    return {x + left,
            y + above,
            width - left - right,
            plot_height,
            make_axis(across.low, across.high, 6, panel.whole_x),
            make_axis(up.low, up.high, 6, false)};
}

inline void draw_axes(Pen& pen, const Panel& panel, const Plot& plot) {
    for (std::size_t i = 0; i <= plot.up.steps; ++i) {
        const double y = plot.at({plot.across.range.low, plot.up.tick(i)}).y;
        pen.stroke({plot.x, y}, {plot.x + plot.width, y}, "class=\"grid\"");
        pen.text(plot.x - 7, y + 4, number(plot.up.tick(i), plot.up.digits()), "end", "class=\"faint\"");
    }
    const double foot = plot.y + plot.height, middle = plot.x + plot.width / 2;
    for (std::size_t i = 0; i <= plot.across.steps; ++i) {
        const double x = plot.at({plot.across.tick(i), plot.up.range.low}).x;
        pen.stroke({x, foot}, {x, foot + 4}, "class=\"axis\"");
        pen.text(x, foot + 18, number(plot.across.tick(i), plot.across.digits()), "middle", "class=\"faint\"");
    }
    pen.stroke({plot.x, foot}, {plot.x + plot.width, foot}, "class=\"axis\"");
    pen.text(middle, foot + 37, shortened(panel.x_label, font, plot.width + right), "middle");
    const std::string turned = "transform=\"rotate(-90 " + number(plot.x - 43) + " " + number(plot.y + plot.height / 2) + ")\"";
    pen.text(plot.x - 43, plot.y + plot.height / 2, shortened(panel.y_label, font, plot.height), "middle", turned);
    pen.text(plot.x, plot.y - 12, shortened(panel.title, font, plot.width), "start", "font-weight=\"600\"");
}

inline void draw_panel(Pen& pen, const Panel& panel, const Legend& legend, const Plot& plot) {
    pen.raw("<g role=\"group\">\n");
    draw_axes(pen, panel, plot);
    for (const bool marks : {false, true}) {  // marks above lines
        for (const Series& series : panel.series) {
            if ((series.kind == Kind::Marks) != marks || series.points.empty()) continue;
            const Style& style = find(legend, series.name)->style;
            std::vector<Point> pixels;
            for (const Point& point : series.points) pixels.push_back(plot.at(point));
            if (series.kind == Kind::Level) pixels = {{plot.x, pixels[0].y}, {plot.x + plot.width, pixels[0].y}};
            if (!marks) pen.path(pixels, style, series.name);
            for (std::size_t i = 0; marks && i < pixels.size(); ++i) {
                pen.mark(pixels[i], style,
                         series.name + ": " + number(series.points[i].x, 2) + ", " + number(series.points[i].y, 2));
            }
        }
    }
    pen.raw("</g>\n");
}

/// The legend from `y` down, in as many columns of equal width as there is room for. Returns where it ends.
inline double draw_legend(Pen& pen, const std::string& heading, const Legend& legend, double y, double width) {
    if (legend.empty()) return y;
    const double room = width - 2 * margin;
    pen.text(margin, y + 14, shortened(heading, font, room), "start", "font-weight=\"600\"");
    y += line;
    double widest = 0;
    for (const Entry& entry : legend) widest = (std::max)(widest, sample + text_width(entry.name, font) + gap);
    const std::size_t fit = (std::max)(std::size_t{1}, static_cast<std::size_t>(room / widest)),
                      columns = (std::min)(fit, legend.size());
    const std::size_t rows = (legend.size() + columns - 1) / columns;
    const double column_width = (std::min)(widest, room);
    for (std::size_t i = 0; i < legend.size(); ++i) {
        const Entry& entry = legend[i];
        const double x = margin + static_cast<double>(i / rows) * column_width,
                     middle = y + static_cast<double>(i % rows) * line + 9;
        if (entry.kind == Kind::Marks) {
            pen.mark({x + 12, middle}, entry.style, entry.name);
        } else {
            pen.path({{x, middle}, {x + sample - 10, middle}}, entry.style, entry.name);
        }
        pen.text(x + sample, middle + 4, shortened(entry.name, font, column_width - sample));
    }
    return y + static_cast<double>(rows) * line + 8;
}

}  // namespace detail

/// The picture as an SVG document. Throws InvalidArgument where there is nothing to draw or a number is too large for an axis,
/// and NotFinite where a number is none.
[[nodiscard]] inline std::string to_svg(const Picture& picture) {
    namespace d = detail;
    d::check(picture);
    const std::vector<d::Legend> legends = d::make_legends(picture);
    std::size_t most = 1;
    for (const Row& row : picture.rows) most = (std::max)(most, row.panels.size());
    const double width = (std::max)(d::least_width, 2 * d::margin + static_cast<double>(most) * d::panel_width);

    d::Pen pen;
    double y = d::margin;
    pen.text(d::margin, y + 14, shortened(picture.title, d::title_font, width - 2 * d::margin), "start", "class=\"title\"");
    y += d::title_font + 17;
    for (const Row& row : picture.rows) {
        if (!row.heading.empty()) {
            if (&row != &picture.rows.front()) y += d::gap / 2;
            pen.text(d::margin, y + 14, shortened(row.heading, d::heading_font, width - 2 * d::margin), "start",
                     "class=\"heading\"");
            y += d::heading_font + 10;
        }
        const double panel_width = (width - 2 * d::margin) / static_cast<double>(most);
        for (std::size_t i = 0; i < row.panels.size(); ++i) {
            const Panel& panel = row.panels[i];
            d::draw_panel(pen, panel, legends[panel.legend],
                          d::make_plot(panel, d::margin + static_cast<double>(i) * panel_width, y, panel_width));
        }
        y += d::above + d::plot_height + d::below;
    }
    y += 8;
    for (std::size_t i = 0; i < legends.size(); ++i) y = d::draw_legend(pen, picture.legends[i], legends[i], y, width);
    const double height = y + d::margin / 2;

    const std::string size = "width=\"" + number(width) + "\" height=\"" + number(height) + "\"";
    return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" " + size + " viewBox=\"0 0 " +
           number(width) + " " + number(height) +
           "\" role=\"img\" aria-labelledby=\"chart-title chart-description\">\n<title id=\"chart-title\">" +
           escaped(picture.title) + "</title>\n<desc id=\"chart-description\">" + escaped(picture.description) + "</desc>\n" +
           std::string(d::stylesheet) + "<rect class=\"paper\" x=\"0.5\" y=\"0.5\" width=\"" + number(width - 1) +
           "\" height=\"" + number(height - 1) + "\" rx=\"8\"/>\n" + pen.finished() + "</svg>\n";
}

}  // namespace cli::chart
