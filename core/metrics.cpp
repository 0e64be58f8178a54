#include "core/metrics.hpp"

#include <boost/json.hpp>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "core/option_values.hpp"

namespace lorashard::core {

using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

[[noreturn]] void fail_file(const std::string& path, const char* verb) {
  fail(Failure::storage, text(path, ": cannot be ", verb, ": ", std::strerror(errno)));
}

// The step of a whole line; none for anything else.
std::optional<Index> step_of(const std::string& line) {
  boost::system::error_code error;
  const boost::json::value value = boost::json::parse(line, error);
  if (error || !value.is_object()) return std::nullopt;
  const boost::json::value* step = value.get_object().if_contains("step");
  return step && step->is_int64() ? std::optional<Index>(step->get_int64()) : std::nullopt;
}

void write_losses(std::string& line, const std::string& key, const std::vector<NamedLoss>& losses) {
  if (losses.empty()) return;
  line += text(",\"", key, "\":", text_of(losses[0].loss));
  if (losses.size() == 1) return;
  line += text(",\"", key == "valid_loss" ? "valid_losses" : key + "_each", "\":{");
  for (const NamedLoss& each : losses)
    line += text(&each == &losses[0] ? "" : ",", boost::json::serialize(boost::json::value(each.name)), ":",
                 text_of(each.loss));
  line += "}";
}

void write_layers(std::string& line, const std::vector<LayerNorms>& layers) {
  if (layers.empty()) return;
  line += ",\"layers\":[";
  for (const LayerNorms& each : layers) {
    line += text(&each == &layers[0] ? "" : ",", "{\"layer\":", each.layer);
    if (each.adapted) line += text(",\"a_norm\":", text_of(each.a_norm), ",\"b_norm\":", text_of(each.b_norm));
    line += text(",\"grad_norm\":", text_of(each.grad_norm), "}");
  }
  line += "]";
}

}  // namespace

MetricsFile::MetricsFile(std::string path, Index first) : path_(std::move(path)) {
  std::string kept;
  std::ifstream old(path_);
  for (std::string line; std::getline(old, line) && !old.eof();) {
    const auto step = step_of(line);
    if (!step || *step >= first) break;
    kept += line + "\n";
  }
  old.close();
  // By another name first: a run that is stopped here keeps its old lines.
  const std::string partial = path_ + ".partial";
  std::ofstream(partial, std::ios::trunc) << kept << std::flush;
  std::error_code error;
  if (std::filesystem::file_size(partial, error) != kept.size() || error) fail_file(partial, "written");
  std::filesystem::rename(partial, path_, error);
  if (error) fail_file(path_, "replaced");
  file_.open(path_, std::ios::app);
  if (!file_) fail_file(path_, "opened");
}

void MetricsFile::append(const StepReport& report, double seconds, const std::vector<NamedLoss>& before,
                         const std::vector<NamedLoss>& after) {
  std::string line =
      text("{\"step\":", report.step, ",\"loss\":", text_of(report.loss), ",\"grad_norm\":", text_of(report.grad_norm),
           ",\"lr\":", text_of(report.lr), ",\"tokens\":", report.tokens,
           ",\"tokens_per_s\":", text_of(static_cast<double>(report.tokens) / seconds));
  write_losses(line, "valid_loss", after);
  write_losses(line, "valid_loss_before", before);
  write_layers(line, report.layers);
  file_ << line << "}\n" << std::flush;
  if (!file_) fail_file(path_, "written");
}

std::vector<NamedLoss> losses_before(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::vector<NamedLoss> losses;
  if (!std::getline(file, line) || !step_of(line)) return losses;
  const boost::json::value value = boost::json::parse(line);
  const boost::json::object& object = value.get_object();
  if (const auto* each = object.if_contains("valid_loss_before_each"))
    for (const auto& [name, loss] : each->as_object()) losses.push_back({name, loss.to_number<double>()});
  else if (const auto* only = object.if_contains("valid_loss_before"))
    losses.push_back({"", only->to_number<double>()});
  return losses;
}

}  // namespace lorashard::core
