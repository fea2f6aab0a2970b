#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace adainfer::inline v0 {

/// P(X >= k) for X ~ Binomial(n, p), 0 <= p <= 1.
[[nodiscard]] inline double binomial_upper_tail(std::size_t k, std::size_t n, double p) noexcept {
    if (k == 0) return 1;
    if (k > n || p <= 0) return 0;
    if (p >= 1) return 1;
    // Down from n by the ratio of neighbours, in logs: p^n underflows. Not lgamma, which is no thread-safe call in glibc.
    const double log_odds = std::log1p(-p) - std::log(p);
    double log_mass = static_cast<double>(n) * std::log(p), tail = std::exp(log_mass);
    for (std::size_t i = n; i > k; --i) {
        log_mass += std::log(static_cast<double>(i) / static_cast<double>(n - i + 1)) + log_odds;
        tail += std::exp(log_mass);
    }
    return (std::min)(tail, 1.0);
}

/// Least k for which k successes in n trials show a success rate >= rate at the given one-sided confidence;
/// n + 1 where not even n do. The same as success_lower_bound(k, n, confidence) >= rate.
[[nodiscard]] inline std::size_t least_successes(std::size_t n, double rate, double confidence) noexcept {
    std::size_t low = 0, high = n + 1;  // the tail falls with k
    while (low < high) {
        const std::size_t k = low + (high - low) / 2;
        if (rate <= 0 || binomial_upper_tail(k, n, rate) <= 1 - confidence) high = k;
        else low = k + 1;
    }
    return low;
}

/// One-sided lower confidence bound of a success rate after k successes in n trials: the rate p at which k or more
/// successes have probability 1 - confidence. Source: Clopper and Pearson, "The use of confidence or fiducial limits
/// illustrated in the case of the binomial" (Biometrika 26(4), 1934).
[[nodiscard]] inline double success_lower_bound(std::size_t k, std::size_t n, double confidence) noexcept {
    if (k == 0) return 0;
    double low = 0, high = 1;
    for (int i = 0; i < 60; ++i) {
        const double p = 0.5 * (low + high);
        (binomial_upper_tail(k, n, p) <= 1 - confidence ? low : high) = p;
    }
    return low;
}

}  // namespace adainfer::inline v0
