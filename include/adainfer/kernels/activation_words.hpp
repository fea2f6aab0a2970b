#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "adainfer/kernels/activation_codes.hpp"
#include "adainfer/kernels/cpu.hpp"

#if ADAINFER_X86

// Activations as 16-bit words, 32 or more under one scale. AVX2 multiplies pairs of them without losing a bit; what it does with
// bytes saturates.

namespace adainfer::inline v0 {

namespace detail::avx2 {

/// 32 values: scale * word. The words of four columns stand in the order 0, 2, 1, 3, as a dword of codes splits into its even
/// and its odd bytes.
struct WordBlock {
    std::int16_t words[activation_block];
    std::int32_t sums[2];  ///< of the first 16 words, and of the others
    float scale;
    float sum;  ///< of all words; times the scale, what a weight's minimum is multiplied by
};

/// 16 values as words; returns their sum.
[[ADAINFER_TARGET_AVX2, gnu::always_inline]] inline std::int32_t store_words(const float* x, __m256 inverse,
                                                                               std::int16_t* words) noexcept {
    const __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), inverse));
    const __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), inverse));
    const __m256i all = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8);
    const __m256i turned = _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(all, 0xD8), 0xD8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(words), turned);
    const __m256i sum = _mm256_add_epi32(a, b);
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xB1)));
}

inline constexpr float largest_word = 32767;

/// What a step of words is for some values, a multiple of 8: the largest magnitude becomes largest_word. NaN where there is a NaN
/// or an infinity, 0 where all are so small that they count as zero.
[[ADAINFER_TARGET_AVX2]] inline float word_scale(std::span<const float> x) noexcept {
    const __m256 zero = _mm256_setzero_ps(), sign = _mm256_set1_ps(-0.0F);
    __m256 poison = zero, largest = zero;  // poison: 0, or NaN
    for (std::size_t i = 0; i < x.size(); i += 8) {
        const __m256 v = _mm256_loadu_ps(x.data() + i);
        poison = _mm256_fmadd_ps(v, zero, poison);
        largest = _mm256_max_ps(largest, _mm256_andnot_ps(sign, v));
    }
    if (_mm256_movemask_ps(_mm256_cmp_ps(poison, zero, _CMP_NEQ_UQ)) != 0) return std::numeric_limits<float>::quiet_NaN();
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(largest), _mm256_extractf128_ps(largest, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    const float most = _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
    return most < smallest_activation * largest_word ? 0.0F : most / largest_word;  // the inverse of less could overflow
}

/// 32 values as words of this scale; zero words where it is 0 or NaN, so that it is NaN that comes out of every product.
[[ADAINFER_TARGET_AVX2]] inline void quantize(const float* x, float scale, WordBlock& block) noexcept {
    if (!(scale > 0.0F)) {
        block = {};
        block.scale = scale;
        return;
    }
    const __m256 inverse = _mm256_set1_ps(1.0F / scale);
    block.sums[0] = store_words(x, inverse, block.words);
    block.sums[1] = store_words(x + 16, inverse, block.words + 16);
    block.scale = scale;
    block.sum = static_cast<float>(block.sums[0] + block.sums[1]);
}

/// Rows of activations as words.
class ActivationWords {
  public:
    /// Makes room for rows of `cols` elements, a multiple of 32.
    void resize(std::size_t tokens, std::size_t cols) {
        blocks_ = cols / activation_block;
        if (values_.size() < tokens * blocks_) values_.resize(tokens * blocks_);
    }

    /// Row `token` = x [cols], so many columns under one scale, a multiple of 32. Rows can be assigned by several threads.
    void assign(std::size_t token, std::span<const float> x, std::size_t columns = activation_block) noexcept {
        WordBlock* block = values_.data() + token * blocks_;
        for (; !x.empty(); x = x.subspan((std::min)(columns, x.size()))) {
            const std::span<const float> part = x.first((std::min)(columns, x.size()));
            const float scale = word_scale(part);
            for (std::size_t i = 0; i < part.size(); i += activation_block) quantize(part.data() + i, scale, *block++);
        }
    }

    [[nodiscard]] const WordBlock* row(std::size_t token) const noexcept { return values_.data() + token * blocks_; }
    [[nodiscard]] std::size_t blocks() const noexcept { return blocks_; }  ///< of a row

  private:
    std::vector<WordBlock> values_;
    std::size_t blocks_ = 0;
};

}  // namespace detail::avx2

}  // namespace adainfer::inline v0

#endif
