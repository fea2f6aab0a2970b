# <name> <source in this folder> <regular expression in the compiler's error line>
adainfer_compile_fail_test(backend_without_matmul backend_without_matmul.cpp "adainfer: the backend lacks 'void matmul")
adainfer_compile_fail_test(policy_without_decide policy_without_decide.cpp "adainfer: the exit policy lacks 'ExitDecision decide")
adainfer_compile_fail_test(discard_with_decode discard_with_decode.cpp "adainfer: decode.. and generate.. need a KvCompletion that keeps the session")
