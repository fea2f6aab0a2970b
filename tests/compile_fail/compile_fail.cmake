# cmake -DCOMPILER= -DSOURCE= -DREGEX= -DINCLUDES= -P compile_fail.cmake
list(TRANSFORM INCLUDES PREPEND -I)
set(compile "${COMPILER}" -std=c++20 -fsyntax-only -w ${INCLUDES})

execute_process(COMMAND ${compile} "${SOURCE}" RESULT_VARIABLE result ERROR_VARIABLE output OUTPUT_VARIABLE output)
if(NOT result EQUAL 0)
    message(FATAL_ERROR "${SOURCE} does not compile as it stands, so it proves nothing:\n${output}")
endif()

execute_process(COMMAND ${compile} -DADAINFER_COMPILE_FAIL "${SOURCE}" RESULT_VARIABLE result ERROR_VARIABLE output OUTPUT_VARIABLE output)
if(result EQUAL 0)
    message(FATAL_ERROR "${SOURCE} compiles with ADAINFER_COMPILE_FAIL, and should not")
endif()
if(NOT output MATCHES "error: [^\n]*${REGEX}")
    message(FATAL_ERROR "${SOURCE} fails with other words than 'error: ... ${REGEX}':\n${output}")
endif()
