// The drawing behind `adainfer plot`; that its output is well-formed XML, tests/cli/test_cli.py checks with a parser.
#include "../../examples/cli/svg_chart.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "errors.hpp"

namespace test_svg_chart {

using namespace cli::chart;

namespace {

Picture picture_of(std::vector<Series> series) {
    Picture picture{"Title", "Description", {Row{"", {}}}, {"Legend"}};
    picture.rows[0].panels.push_back(Panel{"Panel", "x", "y", std::move(series)});
    return picture;
}

std::size_t count(const std::string& text, const std::string& part) {
    std::size_t n = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
    return n;
}

/// The numbers that follow `name="` anywhere in the text.
std::vector<double> attributes(const std::string& text, const std::string& name) {
    std::vector<double> values;
    const std::string start = " " + name + "=\"";
    for (std::size_t at = text.find(start); at != std::string::npos; at = text.find(start, at + 1)) {
        values.push_back(std::stod(text.substr(at + start.size())));
    }
    return values;
}

}  // namespace

TEST_CASE("axes have ticks at round numbers, few of them, around the values") {
    const auto check = [](double low, double high, bool whole, Range range, double step, int digits) {
        CAPTURE(low);
        CAPTURE(high);
        const Axis axis = make_axis(low, high, 6, whole);
        CHECK(axis.range.low == doctest::Approx(range.low));
        CHECK(axis.range.high == doctest::Approx(range.high));
        CHECK(axis.step == doctest::Approx(step));
        CHECK(axis.digits() == digits);
        CHECK(axis.tick(axis.steps) == doctest::Approx(range.high));
    };
    check(0, 1, false, {0, 1}, 0.2, 1);
    check(61, 78.3, false, {60, 80}, 5, 0);
    check(77.9, 78.3, false, {77.9, 78.3}, 0.1, 1);
    check(22.2, 30, true, {22, 30}, 2, 0);
    check(1, 3, true, {1, 3}, 1, 0);      // no half layers
    check(30, 30, true, {29, 31}, 1, 0);  // one value alone
    check(-2e8, 9e8, false, {-2e8, 1e9}, 2e8, 0);
    for (double low = -3; low < 3; low += 0.37) {
        for (const double span : {0.0, 1e-9, 1e-3, 0.7, 12.0, 3e5}) {
            const Axis axis = make_axis(low, low + span, 6, false);
            CAPTURE(low);
            CAPTURE(span);
            CHECK(axis.range.low <= low + 1e-9);
            CHECK(axis.range.high >= low + span - 1e-9);
            CHECK(axis.steps >= 1);
            CHECK(axis.steps <= 12);
        }
    }
}

TEST_CASE("numbers are brief and the same in every locale") {
    CHECK(number(0.2, 1) == "0.2");
    CHECK(number(30, 2) == "30");
    CHECK(number(0.25, 2) == "0.25");
    CHECK(number(-0.01, 1) == "0");
    CHECK(number(100, 0) == "100");
}

TEST_CASE("text is escaped, made printable and shortened by its width") {
    CHECK(escaped("a<b> & \"c\" 'd'") == "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;");
    CHECK(escaped(std::string("x\0y\n\x1b", 5)) == "x y  ");
    CHECK(escaped("\xff\xc3") == "\xEF\xBF\xBD\xEF\xBF\xBD");  // no UTF-8
    CHECK(escaped("\xED\xA0\x80") == "\xEF\xBF\xBD");          // a surrogate: no XML character
    CHECK(escaped("\xEF\xBF\xBF") == "\xEF\xBF\xBD");          // U+FFFF: neither
    CHECK(escaped("d\xC3\xA9j\xC3\xA0") == "d\xC3\xA9j\xC3\xA0");
    CHECK(shortened("short", 12, 100) == "short");
    const std::string name(200, 'n');
    const std::string cut = shortened(name, 12, 100);
    CHECK(cut.ends_with("\xE2\x80\xA6"));
    CHECK(text_width(cut, 12) <= 100);
    CHECK(text_width(cut, 12) > 85);
}

TEST_CASE("a picture holds every series once, and its legend every name once") {
    const std::string svg = to_svg(picture_of({{"marks", Kind::Marks, {{1, 2}, {3, 4}}},
                                               {"line", Kind::Line, {{1, 2}, {2, 3}, {3, 1}}},
                                               {"level", Kind::Level, {{0, 2.5}}, true},
                                               {"single", Kind::Line, {{2, 2}}}}));
    CHECK(count(svg, "<path ") == 2 + 1);      // marks, and one in the legend
    CHECK(count(svg, "<polyline ") == 2 + 3);  // line and level; in the legend they and the single point
    CHECK(count(svg, "<circle ") == 1);
    CHECK(count(svg, ">level</text>") == 1);
    CHECK(count(svg, "<title>marks: 3, 4</title>") == 1);
    CHECK(count(svg, "<title id=\"chart-title\">Title</title>") == 1);
    CHECK(count(svg, "nan") == 0);
}

TEST_CASE("nothing stands outside the picture, however many and long the names") {
    std::vector<Series> series;
    for (int i = 0; i < 40; ++i) {
        series.push_back({std::string(static_cast<std::size_t>(1 + 5 * i), 'W') + std::to_string(i),
                          Kind::Line,
                          {{0, i / 40.0}, {30, 1 - i / 40.0}}});
    }
    const std::string svg = to_svg(picture_of(std::move(series)));
    const double width = attributes(svg, "width").front(), height = attributes(svg, "height").front();
    for (const char* name : {"x", "x1", "x2"}) {
        for (const double x : attributes(svg, name)) {
            CHECK(x >= 0);
            CHECK(x <= width);
        }
    }
    std::vector<double> ys;
    for (const char* name : {"y", "y1", "y2"}) {
        for (const double y : attributes(svg, name)) {
            CHECK(y <= height);
            ys.push_back(y);
        }
    }
    CHECK(*std::max_element(ys.begin(), ys.end()) > 40 * 20);  // names of that length stand one below the other
}

TEST_CASE("series look different from each other: 28 lines, 56 marks") {
    for (const auto& [kind, n] : {std::pair{Kind::Line, 28}, std::pair{Kind::Marks, 56}}) {
        Picture picture = picture_of({});
        for (int i = 0; i < n; ++i) picture.rows[0].panels[0].series.push_back({std::to_string(i), kind, {{1, 1}}});
        const auto legend = detail::make_legends(picture).at(0);
        for (std::size_t a = 0; a < legend.size(); ++a) {
            for (std::size_t b = 0; b < a; ++b) {
                const bool same_second = kind == Kind::Line ? legend[a].style.dash == legend[b].style.dash
                                                            : legend[a].style.shape == legend[b].style.shape;
                CHECK_FALSE((legend[a].style.colour == legend[b].style.colour && same_second));
            }
        }
    }
}

TEST_CASE("what cannot be drawn is an error") {
    using adainfer::ErrorCode;
    const auto refused = [](ErrorCode code, const Picture& picture) { return error_of(code, [&] { (void)to_svg(picture); }); };
    const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
    refused(ErrorCode::InvalidArgument, Picture{"t", "d", {}, {}});
    refused(ErrorCode::InvalidArgument, picture_of({}));
    refused(ErrorCode::InvalidArgument, picture_of({{"empty", Kind::Line, {}}}));
    for (const Point point : {Point{nan, 1}, Point{1, nan}, Point{infinity, 1}, Point{1, -infinity}}) {
        CHECK(contains(refused(ErrorCode::NotFinite, picture_of({{"bad", Kind::Marks, {{1, 1}, point}}})), "series 'bad'"));
    }
    refused(ErrorCode::InvalidArgument, picture_of({{"far", Kind::Marks, {{1e300, 1}}}}));
    Picture lost = picture_of({{"s", Kind::Marks, {{1, 1}}}});
    lost.rows[0].panels[0].legend = 7;
    refused(ErrorCode::InvalidArgument, lost);
}

}  // namespace test_svg_chart
