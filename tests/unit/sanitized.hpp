#pragma once

// TESTS_SANITIZED: the tests run under a sanitizer, which has a malloc of its own, takes address space and is slow.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TESTS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define TESTS_SANITIZED 1
#endif
#endif
