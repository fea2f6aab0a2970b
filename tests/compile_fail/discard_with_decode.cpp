#include "adainfer/backend/reference.hpp"
#include "adainfer/model/model.hpp"

#if defined(ADAINFER_COMPILE_FAIL)
using Completion = adainfer::Discard;
#else
using Completion = adainfer::PropagateHidden;
#endif

void run(const adainfer::Model<adainfer::ReferenceBackend, adainfer::NeverExit, Completion>& model, adainfer::Session& session) {
    (void)model.decode(session, 0);
}
