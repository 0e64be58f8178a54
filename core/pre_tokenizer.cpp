#include "core/pre_tokenizer.hpp"

#include "core/byte_level.hpp"
#include "core/described.hpp"
#include "core/text_pattern.hpp"

namespace lorashard::core {
namespace {

using Piece = PreTokenizer::Piece;

// What "use_regex" means (Radford et al. 2019, encoder.py).
constexpr const char* kGpt2Pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

enum class Delimiter { removed, isolated, with_previous, with_next, contiguous };

struct Part {
  std::size_t begin, end;
  bool match;
};

// Matches and what lies between them; the other way round when inverted.
std::vector<Part> parts_of(const std::string& text, const TextPattern& pattern, bool invert) {
  std::vector<Part> parts;
  std::size_t at = 0;
  for (const TextSpan& match : pattern.matches(text)) {
    if (match.begin > at) parts.push_back({at, match.begin, invert});
    parts.push_back({match.begin, match.end, !invert});
    at = match.end;
  }
  if (at < text.size()) parts.push_back({at, text.size(), invert});
  return parts;
}

// Where two neighbours become one piece.
bool joins(const Part& left, const Part& right, Delimiter how) {
  switch (how) {
    case Delimiter::with_previous:
      return right.match && !left.match;
    case Delimiter::with_next:
      return left.match && !right.match;
    case Delimiter::contiguous:
      return left.match == right.match;
    default:
      return false;
  }
}

void split(Piece&& piece, const TextPattern& pattern, Delimiter how, bool invert, std::vector<Piece>& to) {
  std::vector<Part> parts = parts_of(piece.text, pattern, invert);
  for (std::size_t i = 0; i < parts.size();) {
    std::size_t end = i + 1;
    while (end < parts.size() && joins(parts[end - 1], parts[end], how)) ++end;
    const bool dropped = how == Delimiter::removed && parts[i].match;
    const std::size_t begin = parts[i].begin;
    if (!dropped)
      to.push_back({piece.text.substr(begin, parts[end - 1].end - begin), piece.first && begin == 0,
                    piece.continues && begin == 0});
    i = end;
  }
}

Delimiter delimiter_of(const Described& step) {
  const std::string name = step.fields().text("behavior");
  if (name == "Removed") return Delimiter::removed;
  if (name == "Isolated") return Delimiter::isolated;
  if (name == "MergedWithPrevious") return Delimiter::with_previous;
  if (name == "MergedWithNext") return Delimiter::with_next;
  if (name == "Contiguous") return Delimiter::contiguous;
  step.fields().refuse("behavior", "Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
}

}  // namespace

PreTokenizer::PreTokenizer(const boost::json::value* description, const std::string& where) {
  if (description && !description->is_null()) add(*description, where);
}

void PreTokenizer::add_byte_level(const Described& step) {
  const bool prefix = step.fields().flag("add_prefix_space", true);
  byte_level_ = true;
  if (prefix)
    steps_.push_back([](Piece&& piece, std::vector<Piece>& to) {
      if (!piece.text.starts_with(' ') && !piece.continues) piece.text.insert(0, " ");
      to.push_back(std::move(piece));
    });
  if (step.fields().flag("use_regex", true))
    steps_.push_back([pattern = TextPattern::regex(kGpt2Pattern, step.where())](Piece&& piece, std::vector<Piece>& to) {
      split(std::move(piece), pattern, Delimiter::isolated, false, to);
    });
  steps_.push_back([](Piece&& piece, std::vector<Piece>& to) {
    piece.text = to_visible(piece.text);
    to.push_back(std::move(piece));
  });
}

void PreTokenizer::add_metaspace(const Described& step) {
  const JsonFields& fields = step.fields();
  const std::string mark = fields.text("replacement");
  const std::string scheme = fields.find("prepend_scheme")           ? fields.text("prepend_scheme")
                             : fields.flag("add_prefix_space", true) ? "always"
                                                                     : "never";
  if (scheme != "always" && scheme != "first" && scheme != "never")
    fields.refuse("prepend_scheme", "always, first or never");
  const TextPattern marks = TextPattern::literal(mark, step.where() + ".replacement");
  const bool cut = fields.flag("split", true);
  steps_.push_back([=](Piece&& piece, std::vector<Piece>& to) {
    std::string text;
    for (const char c : piece.text) c == ' ' ? text += mark : text += c;
    const bool wanted = scheme == "always" || (scheme == "first" && piece.first);
    if (wanted && !piece.continues && !text.starts_with(mark)) text.insert(0, mark);
    piece.text = std::move(text);
    if (cut)
      split(std::move(piece), marks, Delimiter::with_next, false, to);
    else
      to.push_back(std::move(piece));
  });
}

void PreTokenizer::add(const boost::json::value& description, const std::string& where) {
  const Described step(description, where);
  const std::string& type = step.type();
  const auto cut = [&](TextPattern pattern, Delimiter how, bool invert) {
    steps_.push_back([=](Piece&& piece, std::vector<Piece>& to) { split(std::move(piece), pattern, how, invert, to); });
  };
  if (type == "Sequence")
    step.each("pretokenizers", [&](const auto& value, const std::string& at) { add(value, at); });
  else if (type == "ByteLevel")
    add_byte_level(step);
  else if (type == "Metaspace")
    add_metaspace(step);
  else if (type == "Split")
    cut(step.pattern(), delimiter_of(step), step.fields().flag("invert", false));
  else if (type == "Digits")
    cut(TextPattern::regex("\\p{N}", where),
        step.fields().flag("individual_digits", false) ? Delimiter::isolated : Delimiter::contiguous, false);
  else if (type == "WhitespaceSplit")
    cut(TextPattern::regex("\\s", where), Delimiter::removed, false);
  else
    step.refuse_type("ByteLevel, Split, Digits, Metaspace, WhitespaceSplit or Sequence");
}

std::vector<Piece> PreTokenizer::operator()(Piece text) const {
  std::vector<Piece> pieces, next;
  if (!text.text.empty()) pieces.push_back(std::move(text));
  for (const Step& step : steps_) {
    next.clear();
    for (Piece& piece : pieces) step(std::move(piece), next);
    pieces.swap(next);
  }
  return pieces;
}

}  // namespace lorashard::core
