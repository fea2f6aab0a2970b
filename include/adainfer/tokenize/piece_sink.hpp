#pragma once

#include <concepts>

namespace adainfer::inline v0 {

namespace detail::split {

/// Whoever gets the pieces of a text, any f(first, last), by reference: one type for all, so that every splitter is compiled
/// once. A call by pointer for each piece is little beside the work on its bytes.
class PieceSink {
  public:
    template <class F>
        requires(!std::same_as<F, PieceSink>)
    PieceSink(const F& f) noexcept
        : object_(&f), call_([](const void* object, const char* first, const char* last) {
              (*static_cast<const F*>(object))(first, last);
          }) {}

    void operator()(const char* first, const char* last) const { call_(object_, first, last); }

  private:
    const void* object_;
    void (*call_)(const void* object, const char* first, const char* last);
};

}  // namespace detail::split

}  // namespace adainfer::inline v0
