// Headers, cards, tables, legends and colours.
#include <algorithm>

#include "kernels/error.hpp"
#include "launch/report_parts.hpp"

namespace lorashard::launch {

using kernels::text;

std::string header(const std::string& kind, const std::string& title, const std::string& below) {
  return text("<header><p class=\"kind\">lorashard <span>", kind, "</span></p><h1>", title, "</h1>",
              below.empty() ? "" : text("<p class=\"below\">", below, "</p>"), "</header>\n");
}

std::string card(const std::string& title, const std::string& note, const std::string& body) {
  if (body.empty()) return "";
  return text("<section><h2>", title, "</h2>", note.empty() ? "" : text("<p class=\"note\">", note, "</p>"), body,
              "</section>\n");
}

std::string tile(const Source& source, const std::string& label, const Figure& figure, const std::string& unit) {
  if (source.text(figure).empty()) return "";
  return text("<div class=\"tile\"><dt>", label, "</dt><dd>", source.html(figure),
              unit.empty() ? "" : text("<span class=\"unit\"> ", unit, "</span>"), "</dd></div>");
}

std::string tiles(const std::string& all, const char* kind) {
  return all.empty() ? "" : text("<dl class=\"tiles ", kind, "\">", all, "</dl>\n");
}

std::string html(const Table& table) {
  if (table.rows.empty()) return "";
  std::string lines = text("<div class=\"wide\"><table class=\"figures", table.head.size() < 6 ? " narrow" : "",
                           table.rows.size() > 24 ? " dense" : "", "\"><thead><tr>");
  for (const std::string& cell : table.head) lines += text("<th scope=\"col\">", cell, "</th>");
  lines += "</tr></thead><tbody>\n";
  for (std::size_t row = 0; row < table.rows.size(); ++row) {
    lines += table.last_ruled > 0 && row == table.last_ruled ? "<tr class=\"ruled\">" : "<tr>";
    for (std::size_t i = 0; i < table.rows[row].size(); ++i)
      lines +=
          i == 0 ? text("<th scope=\"row\">", table.rows[row][i], "</th>") : text("<td>", table.rows[row][i], "</td>");
    lines += "</tr>\n";
  }
  return lines + "</tbody></table></div>\n";
}

std::string method_text(const std::string& method) {
  return method == "lora" ? "LoRA" : method == "full" ? "full fine-tuning" : escaped(method);
}

std::string method_color(const std::string& method) { return method == "full" ? "full" : "lora"; }

namespace {

// What is alike has one colour in all charts. The last one is grey, for what is not the job's own work.
constexpr int kGrey = 9;
const std::vector<std::pair<const char*, int>> kSlots = {
    {"base", 0},       {"products", 0},      {"matmul", 0},    {"forward", 0},     {"adapter", 1},
    {"adapters", 1},   {"gradient", 2},      {"attention", 2}, {"backward", 2},    {"optimizer", 3},
    {"update", 3},     {"activation", 4},    {"kernels", 4},   {"elementwise", 4}, {"workspace", 5},
    {"loss", 5},       {"communication", 6}, {"tensor", 6},    {"collectives", 6}, {"reduce", 6},
    {"pipeline", 7},   {"data", 8},          {"input", 8},     {"checkpoint", 5},  {"libraries", kGrey},
    {"bubble", kGrey}, {"other", kGrey},     {"idle", kGrey},  {"useful", 0},      {"recomputed", 2}};

}  // namespace

Palette::Palette(const std::vector<std::string>& names) {
  std::vector<bool> taken(kGrey + 1, false);
  const auto known = [](const std::string& name) {
    const auto at = std::find_if(kSlots.begin(), kSlots.end(), [&](const auto& slot) { return name == slot.first; });
    return at == kSlots.end() ? -1 : at->second;
  };
  for (const std::string& name : names)
    if (known(name) >= 0) taken[known(name)] = true;
  for (const std::string& name : names) {
    int slot = known(name);
    if (slot < 0) {
      for (slot = 0; slot < kGrey && taken[slot]; ++slot) continue;
      taken[slot] = true;
    }
    slots_.emplace_back(name, slot);
  }
}

std::string Palette::operator[](const std::string& name) const {
  for (const auto& [known, slot] : slots_)
    if (known == name) return text("c", slot);
  return text("c", kGrey);
}

std::string swatch(const std::string& color) { return text("<i class=\"swatch ", color, "\"></i>"); }

std::string legend(const std::vector<LegendEntry>& entries) {
  std::string items;
  for (const LegendEntry& entry : entries) items += text("<li>", swatch(entry.color), entry.name, "</li>");
  return entries.empty() ? "" : text("<ul class=\"legend\">", items, "</ul>\n");
}

std::string mesh_html(const Source& source, const std::string& plan, bool named) {
  const std::string mesh = plan + "/mesh";
  if (source.object(mesh) == nullptr) return source.string(mesh).empty() ? "" : source.html({mesh, "text"});
  const auto axis = [&](const char* name) {
    return (named ? text(name, ' ') : "") + source.html({text(mesh, '/', name), "count"});
  };
  std::string more;
  if (!source.string(plan + "/precision").empty()) more += ", " + source.html({plan + "/precision", "text"});
  for (const std::string& key : {plan + "/microbatch", mesh + "/microbatch"})
    if (source.find(key) != nullptr) more += ", microbatch " + source.html({key, "count"});
  for (const std::string& key : {plan + "/recompute", mesh + "/recompute"})
    if (!source.string(key).empty() && source.string(key) != "none")
      more += ", recompute " + source.html({key, "text"});
  const boost::json::value* sequence = source.find(mesh + "/sequence_parallel");
  if (sequence != nullptr && sequence->is_bool() && sequence->get_bool()) more += ", sequence parallel";
  if (source.value_or_zero({mesh + "/pipeline", "count"}) > 1) {
    if (!source.string(mesh + "/schedule").empty()) more += ", " + source.html({mesh + "/schedule", "text"});
    if (source.value_or_zero({mesh + "/chunks", "count"}) > 1)
      more += text(", ", source.html({mesh + "/chunks", "count"}), " parts a stage");
  }
  return text(axis("tensor"), " × ", axis("pipeline"), " × ", axis("data"), "<span class=\"more\">", more, "</span>");
}

}  // namespace lorashard::launch
