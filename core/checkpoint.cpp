#include "core/checkpoint.hpp"

#include <algorithm>
#include <filesystem>
#include <set>
#include <sstream>

#include "core/quote.hpp"

namespace lorashard::core {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::text;

constexpr const char* kFormat = "lorashard checkpoint 1";
constexpr const char* kMoments[] = {"first_moment", "second_moment"};

[[noreturn]] void refuse(const std::string& path, const std::string& problem) {
  fail(Failure::storage, text(path, ": ", problem));
}

bool ends_with(const std::string& name, const std::string& suffix) {
  return name.size() > suffix.size() && name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0;
}

// "x/first_moment" -> "first_moment/x", anything else -> "tensors/x": in HDF5 a slash makes a group.
std::string dataset_of(const std::string& name) {
  for (const std::string moment : kMoments)
    if (ends_with(name, text("/", moment))) return text(moment, "/", name.substr(0, name.size() - moment.size() - 1));
  return "tensors/" + name;
}

std::string preamble_of(const CheckpointInfo& info) {
  return text(kFormat, "\n", info.step, "\n", info.method, "\n", info.base_digest, "\n", info.config);
}

CheckpointInfo read_info(const H5File& file) {
  const std::string format = file.text("/", "format");
  if (format != kFormat) refuse(file.path(), text("format: found ", in_quotes(format), ", expected '", kFormat, "'"));
  CheckpointInfo info;
  info.step = file.integer("/", "step");
  info.method = file.text("/", "method");
  info.config = file.text("/", "config");
  info.base_digest = file.text("/", "base_digest");
  if (info.step < 0) refuse(file.path(), text("step: found ", info.step, ", expected 0 or more"));
  if (info.method != "lora" && info.method != "full")
    refuse(file.path(), text("method: found ", in_quotes(info.method), ", expected 'lora' or 'full'"));
  return info;
}

std::vector<DigestLine> lines_of(const std::vector<CheckpointEntry>& entries) {
  std::vector<DigestLine> lines;
  for (const CheckpointEntry& entry : entries)
    lines.push_back({dataset_of(entry.name), kernels::DType::f32, entry.rows, entry.cols, {}});
  return lines;
}

// Every dataset's name, a line each.
std::string listing_of(const std::vector<CheckpointEntry>& entries) {
  std::string listing;
  for (const CheckpointEntry& entry : entries) listing += dataset_of(entry.name) + "\n";
  return listing;
}

// Files of earlier versions list nothing.
void expect_listed(const H5File& file, const std::vector<DigestLine>& lines) {
  if (!file.has_attribute("/", "tensors")) return;
  std::set<std::string> listed, found;
  std::istringstream listing(file.text("/", "tensors"));
  for (std::string name; std::getline(listing, name);) listed.insert(name);
  for (const DigestLine& line : lines) found.insert(line.name);
  for (const std::string& name : listed)
    if (!found.count(name)) refuse(file.path(), text("tensor ", in_quotes(name), " is missing"));
  for (const std::string& name : found)
    if (!listed.count(name))
      refuse(file.path(), text("tensor ", in_quotes(name), " is none of those that the file lists"));
}

bool by_name(const CheckpointEntry& a, const CheckpointEntry& b) { return a.name < b.name; }

}  // namespace

void expect_base(const std::string& path, const std::string& found, const std::string& expected,
                 const std::string& base) {
  if (found == expected) return;
  const auto shown = [](const std::string& digest) { return digest.empty() ? "none" : digest; };
  fail(Failure::configuration, text(path, ": base_digest: found ", shown(found), ", expected ", shown(expected),
                                    base.empty() ? "" : " of ", base));
}

CheckpointWriter::CheckpointWriter(const std::string& path, const CheckpointInfo& info,
                                   const std::vector<CheckpointEntry>& entries, dist::Communicator& communicator)
    : path_(path),
      info_(info),
      writer_(path, communicator, lines_of(entries), info.config.size() + listing_of(entries).size()) {
  H5File* const file = writer_.file();
  if (!file) return;
  file->set_text("/", "format", kFormat);
  file->set_integer("/", "step", info.step);
  file->set_text("/", "method", info.method);
  file->set_text("/", "config", info.config);
  file->set_text("/", "base_digest", info.base_digest);
  file->set_text("/", "tensors", listing_of(entries));
}

void CheckpointWriter::write(const std::string& name, const dist::AxisCut& rows, const dist::AxisCut& cols,
                             kernels::ConstMatrix from) {
  writer_.write(dataset_of(name), rows, cols, from);
}

void CheckpointWriter::prove() { writer_.prove(); }

Index CheckpointWriter::finish() {
  writer_.finish(preamble_of(info_));
  return static_cast<Index>(std::filesystem::file_size(path_));
}

CheckpointReader::CheckpointReader(const std::string& path) : file_(H5File::open(path)), info_(read_info(file_)) {
  std::vector<DigestLine> lines;
  const auto list = [&](const std::string& group, const std::string& suffix) {
    if (!file_.exists(group)) return;
    for (const std::string& name : file_.names(group)) {
      const std::string dataset = text(group, "/", name);
      const H5File::MatrixInfo found = file_.matrix_info(dataset);
      if (found.dtype != kernels::DType::f32) refuse(path, text(in_quotes(dataset), ": found bf16, expected f32"));
      entries_.push_back({name + suffix, found.rows, found.cols});
      lines.push_back({dataset, found.dtype, found.rows, found.cols, stored_digest(file_, dataset)});
    }
  };
  list("tensors", "");
  for (const std::string moment : kMoments) list(moment, text("/", moment));
  std::sort(entries_.begin(), entries_.end(), by_name);
  expect_listed(file_, lines);
  digest_ = stored_digest(file_, "/");
  if (const Digest found = digest_of(preamble_of(info_), std::move(lines)); found != digest_) {
    verify();  // names the tensor, if it is one
    refuse(path, text("damaged: its contents' digest is ", found.hex(), ", expected ", digest_.hex()));
  }
}

bool CheckpointReader::has(const std::string& name) const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [&](const CheckpointEntry& entry) { return entry.name == name; });
}

void CheckpointReader::read(const std::string& name, const dist::AxisCut& rows, const dist::AxisCut& cols,
                            kernels::Matrix to) const {
  if (!has(name)) refuse(path(), text("tensor '", name, "' is missing"));
  file_.read(dataset_of(name), rows, cols, to);
}

void CheckpointReader::verify(const std::function<void()>& after_each) const {
  for (const CheckpointEntry& entry : entries_) {
    verify_matrix(file_, dataset_of(entry.name));
    after_each();
  }
}

}  // namespace lorashard::core
