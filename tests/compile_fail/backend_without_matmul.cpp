#include "adainfer/model/model.hpp"

struct Backend {
    using Weight = adainfer::WeightView;
    Weight prepare(adainfer::WeightView weight) const { return weight; }
#if !defined(ADAINFER_COMPILE_FAIL)
    void matmul(const Weight&, adainfer::MatrixView<const float>, adainfer::MatrixView<float>) const {}
#endif
};

using Checked = decltype(adainfer::Model<Backend>(adainfer::ModelWeights{}));
