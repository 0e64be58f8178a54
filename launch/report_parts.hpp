// What the pages of a report are put together from. Private to the files report*.cpp.
#pragma once

#include "launch/report_figure.hpp"
#include "launch/svg.hpp"

namespace lorashard::launch {

// One body for each kind of report.
std::string plan_body(const Source& source);
std::string search_body(const Source& source);
std::string compare_body(const Source& source);
std::string run_body(const Source& source);

const char* style_sheet();

// ---- blocks of a page (report_blocks.cpp)

std::string header(const std::string& kind, const std::string& title, const std::string& below);
// A titled block; nothing where the body is empty.
std::string card(const std::string& title, const std::string& note, const std::string& body);
// A headline figure; nothing where it is not in the data.
std::string tile(const Source& source, const std::string& label, const Figure& figure, const std::string& unit = "");
std::string tiles(const std::string& all, const char* kind = "");

// Cells are HTML; the first of each row is its head.
struct Table {
  std::vector<std::string> head;
  std::vector<std::vector<std::string>> rows;
  std::size_t last_ruled = 0;  // rows from here on stand below a rule; 0: none do
};
std::string html(const Table& table);

// "lora" -> "LoRA"; its colour's class.
std::string method_text(const std::string& method);
std::string method_color(const std::string& method);
// Colours of categories, parts and phases, by what they are; names that are not known get one that is free.
class Palette {
 public:
  explicit Palette(const std::vector<std::string>& names);
  std::string operator[](const std::string& name) const;  // a class

 private:
  std::vector<std::pair<std::string, int>> slots_;
};
std::string swatch(const std::string& color);

struct LegendEntry {
  std::string color, name;
};
std::string legend(const std::vector<LegendEntry>& entries);

// tensor x pipeline x data, with what else its layout says; `named`: the axes by name.
std::string mesh_html(const Source& source, const std::string& plan, bool named = false);

// ---- bars (report_bars.cpp)

struct Segment {
  Figure figure;
  std::string color, name;
};

struct BarRow {
  std::string head;  // HTML
  std::vector<Segment> segments;
  Figure end;        // written beside the bar
  Figure mark = {};  // a place on the row, where at is not empty
};

// Rows of stacked bars on one axis.
struct Bars {
  std::string as;  // of the axis
  std::vector<BarRow> rows;
  std::string limit_name = {};
  Figure limit = {};  // a line across all rows, where at is not empty
  std::string axis_name = {};
};
std::string html(const Source& source, const Bars& bars);

// The figures of rows of bars: a column for each name, which is the last token of the segments' pointers.
std::string columns_of(const Source& source, const Bars& bars, const std::string& corner, const Palette& palette);

// ---- curves (report_chart.cpp)

struct Series {
  std::string name, color;
  // Pointers into each element of the array at `list`: "/step" and "/loss". Elements that lack one are passed over.
  std::string list, x, y;
  bool line = true, points = false;
  double x_plus = 0;  // added to x
};

struct Chart {
  std::string x_name, y_name, x_as, y_as;
  bool log = false;        // both axes, x with ticks at powers of two
  bool from_zero = false;  // the axis up
  int height = 240;
  std::vector<Series> series;
};
// Nothing where no series has two points.
std::string html(const Source& source, const Chart& chart);

// ---- sections that several kinds have

// Of the plan at `plan` ("" or "/planned/lora on 42").
std::string timeline_card(const Source& source, const std::string& plan);
// The pointer to the fullest rank of each stage.
std::vector<std::string> fullest_ranks(const Source& source, const std::string& plan);
// Its categories at their peaks and the libraries.
BarRow memory_row(const Source& source, const std::string& rank, const Palette& palette, const std::string& head);
std::vector<std::string> memory_categories(const Source& source, const std::vector<std::string>& ranks);

std::string front_card(const Source& source);

// Of the run at `run` ("" or "/run/lora").
struct NamedRun {
  std::string at, method, name;
};
std::string loss_card(const Source& source, const std::vector<NamedRun>& runs);
std::string run_memory_card(const Source& source, const std::vector<NamedRun>& runs);
std::string speed_card(const Source& source, const std::vector<NamedRun>& runs);
std::string held_out_card(const Source& source, const std::vector<NamedRun>& runs);

}  // namespace lorashard::launch
