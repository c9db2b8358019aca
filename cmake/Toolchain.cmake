# Compiler settings shared by every target.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})

find_program(TIDEMILL_CCACHE ccache)
if(TIDEMILL_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${TIDEMILL_CCACHE})
endif()

add_compile_options(-Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wconversion -Wno-sign-conversion)
# Results must not depend on which multiplications the compiler chose to fuse: kernels say fma where they mean it.
add_compile_options(-ffp-contract=off)
# The same object files wherever the checkout lies, so that checkouts share what ccache keeps.
add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fmacro-prefix-map=${CMAKE_SOURCE_DIR}/=>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 reports false positives for these inside libstdc++ and Boost at -O2.
  add_compile_options(-Wno-maybe-uninitialized -Wno-restrict -Wno-stringop-overflow -Wno-array-bounds -Wno-dangling-pointer)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # clang 14 implements C++20 coroutines but does not announce them to libstdc++.
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-D__cpp_impl_coroutine=201902L>)
endif()
if(TIDEMILL_WERROR)
  add_compile_options(-Werror)
endif()

if(TIDEMILL_SANITIZE)
  add_compile_options(-fsanitize=${TIDEMILL_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${TIDEMILL_SANITIZE})
endif()
if(TIDEMILL_FUZZ)
  # libFuzzer is guided by what the rooms execute, not only by what its targets do.
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

find_package(Threads REQUIRED)
