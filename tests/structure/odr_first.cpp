// With odr_second.cpp: every header in two translation units of one program.
#include "adainfer/adainfer.hpp"

int version_seen_by_second();

int main() { return version_seen_by_second() == adainfer::version.minor ? 0 : 1; }
