// A frozen file: safetensors, checked for damage, and its tensors by name.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "buffer.h"
#include "frozen/json.h"

namespace elman::frozen {

enum class Type { f32, f64, i64, i8 };  // as in elman.h, but for i8, of which no array is
constexpr Int size_of(Type type) { return type == Type::f32 ? 4 : type == Type::i8 ? 1 : 8; }

struct Tensor {
  Type type;
  std::vector<Int> shape;
  const void* memory;  // aligned to its element size; lives as long as the file

  Int count() const {
    Int count = 1;
    for (Int n : shape) count *= n;
    return count;
  }
};

class File {
 public:
  // Both throw Refusal: for what cannot be read, is no frozen model, is damaged, or of a newer form.
  static File read(const std::string& path);
  static File copy(const void* bytes, std::size_t size);

  const Json& model() const { return model_; }
  const Tensor& tensor(const std::string& name) const;

 private:
  explicit File(std::size_t size) : size_(size), bytes_(std::make_unique<Buffer<char>>(Int(size))) {}
  void open();
  void check_sum(const Json& metadata, std::size_t header) const;
  void add_tensor(const std::string& name, const Json& entry, std::size_t begin);
  void unpack(const std::string& name, const Json& entry);

  std::size_t size_;
  std::unique_ptr<Buffer<char>> bytes_;
  Json model_;
  std::map<std::string, Tensor> tensors_;
  Int unpacked_bytes_ = 0;
  std::vector<std::unique_ptr<Buffer<char>>> unpacked_;  // of matrices that the file has in eight bits
};

}  // namespace elman::frozen
