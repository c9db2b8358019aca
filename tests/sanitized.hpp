// Whether the tests run under a sanitizer (presets asan, tsan and fuzz). Every memory access is then five to fifteen
// times as slow, so inputs that are large only to show that time grows linearly may be smaller: what a sanitizer looks
// for is in every byte's path, and the other presets hold the program to the full size.
#pragma once

namespace tidemill::test {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool sanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif
#else
inline constexpr bool sanitized = false;
#endif

}  // namespace tidemill::test
