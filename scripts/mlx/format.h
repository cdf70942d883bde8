// std::format for compilers without it (GCC before 13): plain {} only, which is all that mlx-c uses.
#pragma once
#if defined(__cplusplus) && __has_include(<version>)
#include <version>
#ifndef __cpp_lib_format
#include <sstream>
#include <string>
#include <string_view>
namespace std {
inline void gomlx_format(ostringstream& out, string_view text) {
  out << text;
}
template <typename First, typename... Rest>
void gomlx_format(ostringstream& out, string_view text, const First& first, const Rest&... rest) {
  auto at = text.find("{}");
  out << text.substr(0, at);
  if (at == string_view::npos)
    return;
  out << first;
  gomlx_format(out, text.substr(at + 2), rest...);
}
template <typename... Values>
string format(string_view text, const Values&... values) {
  ostringstream out;
  gomlx_format(out, text, values...);
  return out.str();
}
} // namespace std
#endif
#endif
