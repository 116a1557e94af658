#include "frozen/json.h"

#include <charconv>

#include "frozen/refusal.h"

namespace elman::frozen {

namespace {

constexpr int deepest = 64;
constexpr Int largest = Int(1) << 31;

[[noreturn]] void wrong(const char* what, const char* expected) {
  damaged(std::string("its header has no ") + expected + " for " + what);
}

template <class Number> bool is_number(const char* first, const char* last, Number& number) {
  const std::from_chars_result found = std::from_chars(first, last, number);
  return found.ec == std::errc() && found.ptr == last;
}

// No field of a model is a fraction: its form is enough.
bool is_fraction(const char* first, const char* last) {
#if defined(__cpp_lib_to_chars)
  double fraction = 0;
  return is_number(first, last, fraction);
#else  // the library of clang has it for whole numbers alone
  const auto digits = [&] {
    const char* begin = first;
    while (first < last && *first >= '0' && *first <= '9') ++first;
    return first - begin;
  };
  if (first < last && *first == '-') ++first;
  auto found = digits();
  if (first < last && *first == '.') ++first, found += digits();
  if (found && first < last && (*first == 'e' || *first == 'E')) {
    if (++first < last && (*first == '-' || *first == '+')) ++first;
    found = digits();
  }
  return found && first == last;
#endif
}

}  // namespace

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Json whole() {
    Json value = this->value(0);
    space();
    if (at_ != text_.size()) fail("more than one value");
    return value;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    damaged("its header is no JSON at byte " + std::to_string(at_) + ": " + what);
  }
  bool ends() const { return at_ == text_.size(); }
  void space() {
    while (!ends() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r')) ++at_;
  }
  char next() const {
    if (ends()) fail("it ends too early");
    return text_[at_];
  }
  bool take(char c) {
    space();
    if (next() != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!take(c)) fail(std::string("expected '") + c + "'");
  }
  void word(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) fail("an unknown word");
    at_ += word.size();
  }

  Json value(int depth) {
    if (depth > deepest) fail("too many lists in one another");
    space();
    Json value;
    value.begin_ = at_;
    switch (next()) {
      case '{': object(value, depth); break;
      case '[': list(value, depth); break;
      case '"': value.kind_ = Json::Kind::string, value.string_ = string(); break;
      case 't': value.kind_ = Json::Kind::boolean, value.boolean_ = true, word("true"); break;
      case 'f': value.kind_ = Json::Kind::boolean, word("false"); break;
      case 'n': word("null"); break;
      default: number(value);
    }
    return value;
  }

  void object(Json& value, int depth) {
    value.kind_ = Json::Kind::object;
    expect('{');
    if (take('}')) return;
    do {
      space();
      std::string key = string();
      if (value.find(key)) fail("the key '" + key + "' stands there twice");
      expect(':');
      value.object_.emplace_back(std::move(key), this->value(depth + 1));
    } while (take(','));
    expect('}');
  }

  void list(Json& value, int depth) {
    value.kind_ = Json::Kind::list;
    expect('[');
    if (take(']')) return;
    do value.list_.push_back(this->value(depth + 1));
    while (take(','));
    expect(']');
  }

  void number(Json& value) {
    const std::size_t begin = at_;
    bool whole = true;
    for (; !ends(); ++at_) {
      const char c = text_[at_];
      if (c == '.' || c == 'e' || c == 'E') whole = false;
      else if (c != '-' && c != '+' && (c < '0' || c > '9')) break;
    }
    const char *first = text_.data() + begin, *last = text_.data() + at_;
    value.kind_ = whole ? Json::Kind::integer : Json::Kind::number;
    if (first == last || !(whole ? is_number(first, last, value.integer_) : is_fraction(first, last))) fail("expected a value");
  }

  unsigned hex() {
    unsigned code = 0;
    if (text_.size() - at_ < 4) fail("it ends too early");
    const std::from_chars_result found = std::from_chars(text_.data() + at_, text_.data() + at_ + 4, code, 16);
    if (found.ec != std::errc() || found.ptr != text_.data() + at_ + 4) fail("expected four digits after \\u");
    at_ += 4;
    return code;
  }

  void append(std::string& to, unsigned code) {
    if (code < 0x80) return void(to += char(code));
    if (code < 0x800) to += char(0xc0 | code >> 6);
    else {
      if (code < 0x10000) to += char(0xe0 | code >> 12);
      else to += char(0xf0 | code >> 18), to += char(0x80 | (code >> 12 & 0x3f));
      to += char(0x80 | (code >> 6 & 0x3f));
    }
    to += char(0x80 | (code & 0x3f));
  }

  void escaped(std::string& to) {
    static constexpr std::string_view letters = "\"\\/bfnrt", meant = "\"\\/\b\f\n\r\t";
    const char c = next();
    ++at_;
    if (const std::size_t i = letters.find(c); i != letters.npos) return void(to += meant[i]);
    if (c != 'u') fail("an unknown escape");
    unsigned code = hex();
    if (code >= 0xd800 && code < 0xdc00 && text_.substr(at_, 2) == "\\u") {
      at_ += 2;
      const unsigned low = hex();
      if (low < 0xdc00 || low > 0xdfff) fail("half a surrogate pair");
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    append(to, code);
  }

  std::string string() {
    expect('"');
    std::string found;
    for (;;) {
      const char c = next();
      if (static_cast<unsigned char>(c) < 0x20) fail("a control character in a string");
      ++at_;
      if (c == '"') return found;
      if (c == '\\') escaped(found);
      else found += c;
    }
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

Json Json::parse(std::string_view text) { return Parser(text).whole(); }

bool Json::boolean(const char* what) const {
  if (kind_ != Kind::boolean) wrong(what, "true or false");
  return boolean_;
}

Int Json::integer(const char* what) const {
  if (kind_ != Kind::integer) wrong(what, "integer");
  return integer_;
}

Int Json::size(const char* what) const {
  if (integer(what) < 0 || integer_ > largest) wrong(what, "size");
  return integer_;
}

const std::string& Json::string(const char* what) const {
  if (kind_ != Kind::string) wrong(what, "string");
  return string_;
}

const std::vector<Json>& Json::list(const char* what) const {
  if (kind_ != Kind::list) wrong(what, "list");
  return list_;
}

const std::vector<std::pair<std::string, Json>>& Json::object(const char* what) const {
  if (kind_ != Kind::object) wrong(what, "object");
  return object_;
}

std::vector<Int> Json::integers(const char* what) const {
  std::vector<Int> found;
  for (const Json& item : list(what)) found.push_back(item.integer(what));
  return found;
}

std::vector<Int> Json::sizes(const char* what) const {
  std::vector<Int> found;
  for (const Json& item : list(what)) found.push_back(item.size(what));
  return found;
}

const Json* Json::find(std::string_view key) const {
  for (const auto& [name, value] : object_)
    if (name == key) return &value;
  return nullptr;
}

const Json& Json::need(std::string_view key) const {
  const Json* found = find(key);
  if (!found) damaged("its header has no '" + std::string(key) + "'");
  return *found;
}

}  // namespace elman::frozen
