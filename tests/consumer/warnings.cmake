# What the consumer projects here ask of their own code, and so of the headers that they include.
set(consumer_warnings -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wold-style-cast -Wcast-align -Wcast-qual -Wnon-virtual-dtor
                      -Woverloaded-virtual -Wdouble-promotion -Wformat=2 -Wextra-semi -Wundef -Werror)
