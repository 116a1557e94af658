// A forward call of a recipe whose weights are packed already: for one batch size and any number of steps.
#pragma once

#include <memory>
#include <vector>

#include "buffer.h"
#include "recipe.h"

namespace elman {

// Not to be run by two at once.
class Prepared {
 public:
  // given: the address of each given array; what belongs to no row is read now, or at each run from where it lies: matrices
  // are copied, vectors and the recipe must live as long. The others may be 0. Throws std::invalid_argument for a recipe
  // that is no forward call of all rows.
  Prepared(const Recipe& recipe, Int B, bool reverse, const std::vector<std::uintptr_t>& given, int threads);

  // given: addresses of the given arrays again, of which those of a batch (0: zeros) and of rows are read. own: of the
  // arrays that the recipe makes, in their order, written; no memory of one is that of another.
  void run(Int T, const std::uintptr_t* given, const std::uintptr_t* own);

  Int batch() const { return B_; }
  std::size_t given_count() const { return givens_; }
  std::size_t own_count() const { return owns_; }

 private:
  struct Piece {
    const KernelStep* step;
    Int room;  // rows at once, where it is no sequence
    std::unique_ptr<Stream> stream;
  };

  const RecipeArray& array(int i) const { return recipe_.arrays_[std::size_t(i)]; }
  std::uintptr_t& base(int i) { return base_[std::size_t(i)]; }
  Int row_bytes(int i) const { return array(i).width * element_; }
  void check() const;
  void place_fixed(const std::vector<std::uintptr_t>& given);
  void make_room(Int T, Int steps);
  std::unique_ptr<Stream> stream(const KernelStep& step, Int room, int threads) const;
  void start(const Start& start, Int T, Int steps);
  std::uintptr_t at(const Operated& operand, Int begin);
  void run(Piece& piece, Int begin, Int steps);

  const Recipe& recipe_;
  Int element_, B_;
  bool reverse_;
  Int most_steps_;  // of a stretch
  std::size_t givens_ = 0, owns_ = 0;
  std::vector<std::uintptr_t> base_, addresses_;
  std::vector<Int> offsets_, bounds_;
  std::unique_ptr<Buffer<char>> fixed_, passing_;
  Int room_steps_ = 0, room_T_ = 0;  // of what passes, and of histories
  std::vector<Piece> pieces_;
};

}  // namespace elman
