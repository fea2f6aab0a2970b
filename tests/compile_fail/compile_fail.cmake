# cmake -DCOMPILER= -DSOURCE= -DINCLUDES= [-DMISTAKE= -DREGEX=] -P compile_fail.cmake
# Without MISTAKE: the source compiles as it stands. With that macro defined it does not: there is one error, its line matches REGEX,
# so that an unrelated one does not pass, and all that the compiler says fits on a screen.
set(most_lines 20)
list(TRANSFORM INCLUDES PREPEND -I)
set(compile "${COMPILER}" -std=c++20 -fsyntax-only -w ${INCLUDES})

if(NOT MISTAKE)
    execute_process(COMMAND ${compile} "${SOURCE}" RESULT_VARIABLE result ERROR_VARIABLE output OUTPUT_VARIABLE output)
    if(NOT result EQUAL 0)
        message(FATAL_ERROR "${SOURCE} does not compile as it stands, so its mistakes prove nothing:\n${output}")
    endif()
    return()
endif()

execute_process(COMMAND ${compile} "-D${MISTAKE}" "${SOURCE}" RESULT_VARIABLE result ERROR_VARIABLE output OUTPUT_VARIABLE output)
if(result EQUAL 0)
    message(FATAL_ERROR "${SOURCE} compiles with ${MISTAKE}, and should not")
endif()
if(NOT output MATCHES "error: [^\n]*${REGEX}")
    message(FATAL_ERROR "${SOURCE} with ${MISTAKE} fails with other words than 'error: ... ${REGEX}':\n${output}")
endif()
string(REGEX MATCHALL " error: " errors "${output}")
list(LENGTH errors errors)
string(REGEX MATCHALL "\n" lines "${output}")
list(LENGTH lines lines)
if(NOT errors EQUAL 1 OR lines GREATER most_lines)
    message(FATAL_ERROR "${SOURCE} with ${MISTAKE}: ${errors} errors in ${lines} lines; wanted is one error in at most ${most_lines}:\n${output}")
endif()
