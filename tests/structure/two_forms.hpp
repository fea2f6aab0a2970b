#pragma once

// After adainfer.hpp, whichever of the two.
#include <cstddef>
#include <vector>

using Dense = adainfer::Model<adainfer::ReferenceBackend>;

/// Where a policy that exits at its third check does so.
std::size_t patient_exit(const Dense& dense, const std::vector<adainfer::TokenId>& prompt);

/// What one file throws, the other catches.
adainfer::Error error_of_other_file();
