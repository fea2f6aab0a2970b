#include "adainfer/adainfer.hpp"

int version_seen_by_second();

int version_seen_by_second() { return adainfer::version.minor; }
