// How a tokenizer.json cuts a normalized text into the pieces inside of which tokens are joined: its "pre_tokenizer".
#pragma once

#include <boost/json/value.hpp>
#include <functional>
#include <string>
#include <vector>

namespace lorashard::core {

class PreTokenizer {
 public:
  struct Piece {
    std::string text;
    bool first = false;      // with it the whole text begins
    bool continues = false;  // it goes on from another text: no space is put in front
  };

  // The value of "pre_tokenizer"; nullptr: none. ByteLevel, Split, Digits, Metaspace, WhitespaceSplit and Sequence;
  // anything else throws Failure::configuration "<where>: ...".
  PreTokenizer(const boost::json::value* description, const std::string& where);
  std::vector<Piece> operator()(Piece text) const;  // none of the pieces is empty
  // Pieces are in the visible characters of byte_level.hpp.
  bool byte_level() const { return byte_level_; }

 private:
  using Step = std::function<void(Piece&&, std::vector<Piece>&)>;
  void add(const boost::json::value& description, const std::string& where);
  void add_byte_level(const class Described& step);
  void add_metaspace(const class Described& step);
  std::vector<Step> steps_;
  bool byte_level_ = false;
};

}  // namespace lorashard::core
