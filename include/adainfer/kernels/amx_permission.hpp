#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#endif

namespace adainfer::inline v0::detail {

/// True where this process may use the tiles of AMX for bfloat16: the CPU has them, the kernel saves them, and it has granted them
/// to the process, which is asked for once (Linux, Documentation/arch/x86/xstate.rst).
[[nodiscard]] inline bool may_use_amx() noexcept {
#if defined(__x86_64__) && defined(__GNUC__) && defined(__linux__)
    static const bool granted = [] {
        unsigned a = 0, b = 0, c = 0, d = 0;
        constexpr unsigned osxsave = 1U << 27U, amx_bf16 = 1U << 22U, amx_tile = 1U << 24U;
        if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & osxsave) == 0) return false;
        if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & amx_bf16) == 0 || (d & amx_tile) == 0) return false;
        std::uint32_t low = 0, high = 0;
        asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        constexpr std::uint32_t tile_state = 3U << 17U;  // configuration and data
        if ((low & tile_state) != tile_state) return false;
        constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
        return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
    }();
    return granted;
#else
    return false;
#endif
}

}  // namespace adainfer::inline v0::detail
