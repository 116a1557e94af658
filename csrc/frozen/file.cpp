#include "frozen/file.h"

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>

#include "frozen/refusal.h"

namespace elman::frozen {

namespace {

constexpr std::size_t prefix = 8;                  // the length of the header
constexpr std::size_t most_header = 256u << 20;
constexpr std::string_view sum_word = "crc32:";
constexpr std::size_t sum_digits = 8;
constexpr const char *format = "1", *with_eight_bits = "2";

using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

constexpr Tables tables() {
  Tables t{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = c >> 1 ^ (c & 1 ? 0xedb88320u : 0u);
    t[0][i] = c;
  }
  for (std::size_t k = 1; k < 8; ++k)
    for (std::size_t i = 0; i < 256; ++i) t[k][i] = t[k - 1][i] >> 8 ^ t[0][t[k - 1][i] & 0xff];
  return t;
}

constexpr Tables crc = tables();

// CRC-32 as in zlib and PNG, eight bytes at a time.
std::uint32_t go_on(std::uint32_t c, const char* bytes, std::size_t count) {
  const auto* p = reinterpret_cast<const unsigned char*>(bytes);
  for (; count >= 8; count -= 8, p += 8) {
    const std::uint32_t low = c ^ (p[0] | p[1] << 8 | p[2] << 16 | std::uint32_t(p[3]) << 24);
    c = crc[7][low & 0xff] ^ crc[6][low >> 8 & 0xff] ^ crc[5][low >> 16 & 0xff] ^ crc[4][low >> 24] ^ crc[3][p[4]] ^
        crc[2][p[5]] ^ crc[1][p[6]] ^ crc[0][p[7]];
  }
  for (; count > 0; --count, ++p) c = c >> 8 ^ crc[0][(c ^ *p) & 0xff];
  return c;
}

struct Close {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

Type type_of(const std::string& word) {
  if (word == "F32") return Type::f32;
  if (word == "F64") return Type::f64;
  if (word == "I64") return Type::i64;
  if (word == "I8") return Type::i8;
  damaged("a tensor is of the type " + word + ", expected F32, F64, I64 or I8");
}

// (rows, columns) whole numbers, each times the scale of its row, or of its column.
template <class T>
void scaled(const std::int8_t* in, const void* scales, bool by_row, Int rows, Int columns, char* to) {
  const auto* scale = static_cast<const T*>(scales);
  T* out = reinterpret_cast<T*>(to);
  for (Int r = 0; r < rows; ++r)
    for (Int c = 0; c < columns; ++c, ++in) *out++ = T(*in) * scale[by_row ? r : c];
}
}  // namespace

File File::read(const std::string& path) {
  const auto refuse = [&] {
    return Refusal(ELMAN_CANNOT_READ, path + " cannot be read: " + (errno ? std::strerror(errno) : "it ends too early"));
  };
  errno = 0;
  const std::unique_ptr<std::FILE, Close> file(std::fopen(path.c_str(), "rb"));
  if (!file) throw refuse();
  if (std::fgetc(file.get()) == EOF && std::ferror(file.get())) throw refuse();  // a folder
  if (std::fseek(file.get(), 0, SEEK_END)) throw refuse();
  const long size = std::ftell(file.get());
  if (size < 0 || std::fseek(file.get(), 0, SEEK_SET)) throw refuse();
  File found{std::size_t(size)};
  if (std::fread(found.bytes_->get(), 1, found.size_, file.get()) != found.size_) throw refuse();
  found.open();
  return found;
}

File File::copy(const void* bytes, std::size_t size) {
  File found(size);
  std::memcpy(found.bytes_->get(), bytes, size);
  found.open();
  return found;
}

void File::open() {
  if (size_ < prefix + 2) damaged("it has " + std::to_string(size_) + " bytes");
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < prefix; ++i)
    length |= std::uint64_t(static_cast<unsigned char>(bytes_->get()[i])) << 8 * i;
  if (length > size_ - prefix || length > most_header)
    damaged("its header would have " + std::to_string(length) + " bytes, the file has " + std::to_string(size_));
  const Json header = Json::parse({bytes_->get() + prefix, std::size_t(length)});
  const Json& metadata = header.need("__metadata__");
  const Json* version = metadata.find("elman.frozen");
  if (!version) damaged("its header has no 'elman.frozen'");
  const bool packed = version->string("elman.frozen") == with_eight_bits;
  if (!packed && version->string("elman.frozen") != format)
    throw Refusal(ELMAN_NEWER, "the file is a frozen model of form " + version->string("elman.frozen") +
                                   ", and this library reads forms " + format + " and " + with_eight_bits + ": take a newer one, or freeze the model anew");
  check_sum(metadata, std::size_t(length));
  model_ = Json::parse(metadata.need("model").string("model"));
  for (const auto& [name, entry] : header.object("tensors"))
    if (name != "__metadata__") add_tensor(name, entry, prefix + std::size_t(length));
  if (packed)
    for (const auto& [name, entry] : model_.need("eight_bits").object("eight_bits")) unpack(name, entry);
}

void File::unpack(const std::string& name, const Json& entry) {
  const Tensor &in = tensor(name), &scales = tensor(entry.need("scales").string("scales"));
  const Int axis = entry.need("axis").integer("axis");
  if (in.type != Type::i8 || in.shape.size() != 2 || axis < 0 || axis > 1) damaged("tensor " + name + " is no matrix of eight bits");
  const bool number = scales.type == Type::f32 || scales.type == Type::f64;
  if (!number || scales.shape.size() != 1 || scales.shape[0] != in.shape[std::size_t(axis)]) damaged("tensor " + name + " has other scales");
  // Names may lie on one another; whole files have no more than this.
  const Int bytes = in.count() * size_of(scales.type);
  if (bytes > 8 * Int(size_) - unpacked_bytes_) damaged("tensors in eight bits lie on one another");
  unpacked_bytes_ += bytes;
  unpacked_.push_back(std::make_unique<Buffer<char>>(bytes));
  char* to = unpacked_.back()->get();
  (scales.type == Type::f32 ? scaled<float> : scaled<double>)(static_cast<const std::int8_t*>(in.memory), scales.memory, axis == 0, in.shape[0], in.shape[1], to);
  tensors_[name] = {scales.type, in.shape, to};
}

// Of all bytes of the file, with zeros for the digits of the sum itself.
void File::check_sum(const Json& metadata, std::size_t header) const {
  const Json& given = metadata.need("checksum");
  const std::string& sum = given.string("checksum");
  if (sum.size() != sum_word.size() + sum_digits || sum.compare(0, sum_word.size(), sum_word) != 0)
    damaged("its checksum is '" + sum + "', expected crc32: and eight digits");
  const std::size_t at = prefix + given.begin() + 1 + sum_word.size();
  const std::string digits = sum.substr(sum_word.size());
  if (at + sum_digits > prefix + header || digits.compare(0, sum_digits, bytes_->get() + at, sum_digits) != 0)
    damaged("its checksum is spelt in another way");
  std::uint32_t c = go_on(~0u, bytes_->get(), at);
  c = go_on(c, "00000000", sum_digits);
  c = ~go_on(c, bytes_->get() + at + sum_digits, size_ - at - sum_digits);
  char found[sum_digits + 1];
  std::snprintf(found, sizeof found, "%08x", unsigned(c));
  if (digits != found) damaged("its checksum is " + digits + ", that of its bytes " + found);
}

void File::add_tensor(const std::string& name, const Json& entry, std::size_t begin) {
  Tensor tensor{type_of(entry.need("dtype").string("dtype")), entry.need("shape").sizes("shape"), nullptr};
  const std::vector<Int> offsets = entry.need("data_offsets").integers("data_offsets");
  const Int room = Int(size_ - begin);
  Int bytes = size_of(tensor.type);
  for (Int n : tensor.shape) {
    if (n > 0 && bytes > room / n) damaged("tensor " + name + " is larger than the file");
    bytes *= n;
  }
  if (offsets.size() != 2 || offsets[0] < 0 || offsets[1] > room || offsets[1] - offsets[0] != bytes)
    damaged("tensor " + name + " does not lie in the file");
  const std::size_t at = begin + std::size_t(offsets[0]);
  if (at % std::size_t(size_of(tensor.type))) damaged("tensor " + name + " is not aligned to its element size");
  tensor.memory = bytes_->get() + at;
  tensors_.emplace(name, std::move(tensor));
}

const Tensor& File::tensor(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) damaged("it has no tensor " + name);
  return found->second;
}

}  // namespace elman::frozen
