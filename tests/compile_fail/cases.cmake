# adainfer_compile_fail_tests(<source in this folder> <macro that flips one mistake in> <regular expression in the error line> ...)
adainfer_compile_fail_tests(backend.cpp
    NO_WEIGHT             "adainfer: the backend lacks a nested type Weight"
    NO_PREPARE            "adainfer: the backend lacks 'Weight prepare.WeightView. const'"
    WRONG_PREPARE         "adainfer: the backend lacks 'Weight prepare.WeightView. const'"
    NO_MATMUL             "adainfer: the backend lacks 'void matmul.const Weight&, "
    MUTABLE_MATMUL        "adainfer: the backend lacks 'void matmul.const Weight&, "
    NOT_COPYABLE          "adainfer: the backend must be copyable")
adainfer_compile_fail_tests(policy.cpp
    NO_FEATURES           "adainfer: the exit policy lacks 'ExitDecision decide.std::size_t layer, const Features::Values&, State&. const'"
    NO_STATE              "adainfer: the exit policy lacks a default-constructible nested type State"
    NO_WANTS              "adainfer: the exit policy lacks 'bool wants.std::size_t layer. const'"
    MUTABLE_WANTS         "adainfer: the exit policy lacks 'bool wants.std::size_t layer. const'"
    NO_DECIDE             "adainfer: the exit policy lacks 'ExitDecision decide.std::size_t layer, const Features::Values&, State&. const'"
    DECIDES_BOOL          "adainfer: the exit policy lacks 'ExitDecision decide.std::size_t layer, const Features::Values&, State&. const'"
    OTHER_FEATURE         "adainfer: the feature is not in the policy's FeatureList"
    WRONG_START           "adainfer: the exit policy's optional start must be 'State start.std::size_t step. const'"
    WRONG_SKIPS           "adainfer: the exit policy's optional skips must be 'bool skips.std::size_t layer. const'"
    NOT_MOVABLE           "adainfer: the exit policy must be movable")
adainfer_compile_fail_tests(adainfer_policy.cpp
    OTHER_FEATURES        "adainfer: the exit classifier was made for other features than the policy reads"
    NO_STATE              "adainfer: the exit classifier lacks a nested type State"
    NO_SCORE              "adainfer: the exit classifier lacks 'float score.std::span<const float> features, State&. const'"
    NO_THRESHOLD          "adainfer: the exit classifier lacks 'float threshold'"
    NO_FEATURE_COUNT      "adainfer: the exit classifier lacks 'std::size_t feature_count.. const'"
    NO_APPLY              "adainfer: the policy's lens lacks 'void apply.const Decoder&, "
    NO_RUN                "adainfer: the policy's head lacks 'std::span<const TokenId> run.const Decoder&, "
    WRONG_RUN             "adainfer: the policy's head lacks 'std::span<const TokenId> run.const Decoder&, ")
adainfer_compile_fail_tests(completion.cpp
    GENERATE_WITH_DISCARD "adainfer: decode.. and generate.. need a KvCompletion that keeps the session"
    NO_KEEPS_SESSION      "adainfer: the completion lacks 'static constexpr bool keeps_session'")
