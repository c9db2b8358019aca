# Rooms: one folder under src/ is one CMake target is one namespace (docs/architecture.md).
#
# The table below is the design. `tidemill_room` refuses, at configure time, a dependency that the table does not
# allow. The compiler refuses the rest: a room's headers are only on the include path of those that link it, because
# each room is published through an include directory of its own that holds nothing but a link to its folder.

set(TIDEMILL_ROOM_base "")
set(TIDEMILL_ROOM_observe base)
set(TIDEMILL_ROOM_tensor base)
set(TIDEMILL_ROOM_text base)
set(TIDEMILL_ROOM_grammar base text)
set(TIDEMILL_ROOM_chat base text grammar)
set(TIDEMILL_ROOM_model base tensor text)
set(TIDEMILL_ROOM_evaluate base tensor text model)
set(TIDEMILL_ROOM_quantize base tensor text model evaluate)
set(TIDEMILL_ROOM_distill base tensor text model evaluate quantize)
set(TIDEMILL_ROOM_engine base tensor text grammar model observe)
set(TIDEMILL_ROOM_session base)
set(TIDEMILL_ROOM_access base session)
set(TIDEMILL_ROOM_route base)
set(TIDEMILL_ROOM_rollout base)
set(TIDEMILL_ROOM_wire base observe)
set(TIDEMILL_ROOM_hub base observe model wire)
set(TIDEMILL_ROOM_serve base tensor text grammar chat model observe engine wire session)
set(TIDEMILL_ROOM_gateway base observe route rollout wire session access)
set(TIDEMILL_ROOM_cli base tensor text grammar chat model evaluate quantize distill observe engine route rollout wire session access hub serve gateway)

# What the module of libtorch, which is a shared object, is made from. All else is for programs alone.
set(TIDEMILL_SHARED_ROOMS base tensor text model evaluate quantize distill)

# What a request to the gateway goes through: compiled by the profile that scripts/profiled.sh records (TIDEMILL_PROFILE).
set(TIDEMILL_PROFILED_ROOMS base observe session access route rollout wire gateway)

# tidemill_by_profile(<target>)
function(tidemill_by_profile target)
  if(TIDEMILL_PROFILE)
    # ccache has the compiler see other paths, by which it would not know functions again.
    set_target_properties(${target} PROPERTIES CXX_COMPILER_LAUNCHER "")
  endif()
  if(TIDEMILL_PROFILE STREQUAL "record")
    target_compile_options(${target} PRIVATE -fprofile-generate -fprofile-update=prefer-atomic -Wno-mismatched-new-delete)
    target_link_options(${target} INTERFACE -fprofile-generate)
  elseif(TIDEMILL_PROFILE STREQUAL "use")
    # Threads that end while the profile is written make its numbers differ a little, which is put right; what was not
    # called has none.
    target_compile_options(${target} PRIVATE -fprofile-use -fprofile-correction -Wno-missing-profile -Wno-mismatched-new-delete)
    # llvm-bolt places what is compiled so, and wants functions whole.
    target_compile_options(${target} PRIVATE -fno-reorder-blocks-and-partition)
    target_link_options(${target} INTERFACE -Wl,--emit-relocs)
  elseif(TIDEMILL_PROFILE)
    message(FATAL_ERROR "TIDEMILL_PROFILE is '${TIDEMILL_PROFILE}': use record, use, or nothing")
  endif()
endfunction()

# tidemill_batches(<target> <size> [<source>...])
# Has a target's sources compiled so many at a time where TIDEMILL_UNITY says so, but for those that are named.
function(tidemill_batches target size)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${TIDEMILL_UNITY} UNITY_BUILD_BATCH_SIZE ${size})
  if(TIDEMILL_UNITY AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC takes the sources of a batch for headers, whose types must not be of an unnamed namespace.
    target_compile_options(${target} PRIVATE -Wno-subobject-linkage)
  endif()
  if(ARGN)
    set_source_files_properties(${ARGN} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
  endif()
endfunction()

# tidemill_room(<name> SOURCES <file>... [BATCH <size>] [ALONE <file>...] [USES <room>...] [LINKS <library>...]
#               [LINKS_PUBLIC <library>...])
# BATCH: how many sources are compiled, and linted, together at most where five are not enough: in rooms none of whose
# sources call their own things alike. What a batch includes is read once for all of it.
# ALONE: sources that are not compiled in one batch with others (TIDEMILL_UNITY). A name that two unnamed namespaces of a
# room have is no reason: say what each is, or share one.
function(tidemill_room name)
  cmake_parse_arguments(ROOM "" "BATCH" "SOURCES;ALONE;USES;LINKS;LINKS_PUBLIC" ${ARGN})
  if(NOT DEFINED TIDEMILL_ROOM_${name})
    message(FATAL_ERROR "room '${name}' is not in the table of cmake/Rooms.cmake")
  endif()
  foreach(used IN LISTS ROOM_USES)
    if(NOT used IN_LIST TIDEMILL_ROOM_${name})
      message(FATAL_ERROR "room '${name}' must not use '${used}': it may use [${TIDEMILL_ROOM_${name}}] (cmake/Rooms.cmake)")
    endif()
  endforeach()

  set(view ${CMAKE_BINARY_DIR}/rooms/${name})
  file(MAKE_DIRECTORY ${view})
  file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR} ${view}/${name} SYMBOLIC)

  add_library(tidemill_${name} STATIC ${ROOM_SOURCES})
  add_library(tidemill::${name} ALIAS tidemill_${name})
  if(NOT ROOM_BATCH)
    set(ROOM_BATCH 5)
  endif()
  tidemill_batches(tidemill_${name} ${ROOM_BATCH} ${ROOM_ALONE})
  # Code for shared objects takes every function for one that another object may replace, and so neither inlines it nor
  # calls it directly. A request goes through some thousand of them.
  if(name IN_LIST TIDEMILL_SHARED_ROOMS)
    target_compile_options(tidemill_${name} PRIVATE -fno-semantic-interposition)
  else()
    set_target_properties(tidemill_${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(tidemill_${name} PRIVATE -fPIE)
  endif()
  if(name IN_LIST TIDEMILL_PROFILED_ROOMS)
    tidemill_by_profile(tidemill_${name})
  endif()
  target_include_directories(tidemill_${name} PUBLIC ${view})
  foreach(used IN LISTS ROOM_USES)
    target_link_libraries(tidemill_${name} PUBLIC tidemill::${used})
  endforeach()
  target_link_libraries(tidemill_${name} PRIVATE ${ROOM_LINKS} PUBLIC ${ROOM_LINKS_PUBLIC})
endfunction()

# tidemill_tests(<room> SOURCES <file>... [ALONE <file>...] [USES <room>...] [LINKS <library>...])
# One test program per room, registered with ctest case by case under the label of its room. For ALONE, and for names
# that two sources have, the same holds as for rooms.
function(tidemill_tests name)
  cmake_parse_arguments(TESTS "" "" "SOURCES;ALONE;USES;LINKS" ${ARGN})
  add_executable(test_${name} ${TESTS_SOURCES})
  target_include_directories(test_${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  # Most of what a test compiles is what it includes, which a batch reads once: five of route's take 4.5 s of a processor
  # at once, and 10.7 s one by one.
  tidemill_batches(test_${name} 8 ${TESTS_ALONE})
  if(TIDEMILL_UNITY)
    # That a name of one source hides another's is no fault; of one that hides its own, builds without batches tell.
    target_compile_options(test_${name} PRIVATE -Wno-shadow)
  endif()
  # The tests themselves need no more, and compile a fifth faster.
  target_compile_options(test_${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  target_link_libraries(test_${name} PRIVATE tidemill::${name} ${TESTS_LINKS} GTest::gtest GTest::gtest_main)
  foreach(used IN LISTS TESTS_USES)
    target_link_libraries(test_${name} PRIVATE tidemill::${used})
  endforeach()
  # ${CMAKE_SOURCE_DIR} as the working directory lets tests find models/ and, beside the checkout, shared/data.
  gtest_discover_tests(test_${name} DISCOVERY_MODE PRE_TEST WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
                       PROPERTIES LABELS ${name} TIMEOUT 300)
endfunction()
