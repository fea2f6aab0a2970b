#include <adainfer/backend/concept.hpp>
#include <adainfer/backend/xtensor.hpp>

static_assert(adainfer::TensorBackend<adainfer::XtensorBackend>);
