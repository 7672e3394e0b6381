# Finds archives of libuv and protobuf-c that can become part of a Python module, which is seen by trying, and sets
# LIBUV_ARCHIVE and PROTOBUF_C_ARCHIVE.  Where there are none, TUTTI_STATIC_DEPENDENCIES becomes OFF if it was AUTO.

# Sets RESULT to what the linker said about making a module of all that is in the archives; to nothing on success.
function(try_module result)
  separate_arguments(flags UNIX_COMMAND "${CMAKE_C_FLAGS}")
  execute_process(
    COMMAND ${CMAKE_C_COMPILER} ${flags} -shared -o ${CMAKE_CURRENT_BINARY_DIR}/probe.so -Wl,--whole-archive ${ARGN}
            -Wl,--no-whole-archive -Wl,--exclude-libs,ALL -Wl,-z,text -Wl,-z,defs -lpthread -ldl -lrt
    RESULT_VARIABLE failed OUTPUT_VARIABLE said ERROR_VARIABLE said)
  if(failed)
    set(${result} "${said}" PARENT_SCOPE)
  else()
    set(${result} "" PARENT_SCOPE)
  endif()
endfunction()

# Copies an archive of libuv that is meant for programs to one that can become part of a module: libuv_variables.c.
function(adapt_libuv archive copy)
  set(object ${CMAKE_CURRENT_BINARY_DIR}/libuv_variables.o)
  set(renamed)
  foreach(variable environ stderr in6addr_any)
    list(APPEND renamed --redefine-sym ${variable}=tutti_libuv_${variable})
  endforeach()
  separate_arguments(flags UNIX_COMMAND "${CMAKE_C_FLAGS}")
  file(REMOVE ${copy})
  # A step that fails leaves an archive that cannot be linked, or none, which try_module() then tells.
  execute_process(COMMAND ${CMAKE_C_COMPILER} ${flags} -D_GNU_SOURCE -O2 -fPIC
                          -c ${CMAKE_CURRENT_SOURCE_DIR}/src/libuv_variables.c -o ${object})
  execute_process(COMMAND ${CMAKE_OBJCOPY} ${renamed} ${archive} ${copy})
  execute_process(COMMAND ${CMAKE_AR} rs ${copy} ${object} OUTPUT_QUIET ERROR_QUIET)
endfunction()

function(find_static_dependencies)
  find_package(PkgConfig QUIET)
  if(PKG_CONFIG_FOUND)
    pkg_get_variable(libuv_folder libuv libdir)
    pkg_get_variable(protobuf_c_folder libprotobuf-c libdir)
  endif()
  find_library(libuv NAMES libuv.a libuv_a.a HINTS ${libuv_folder} NO_CACHE)
  find_library(protobuf_c NAMES libprotobuf-c.a HINTS ${protobuf_c_folder} NO_CACHE)
  set(TUTTI_STATIC_DEPENDENCIES OFF PARENT_SCOPE)
  if(NOT libuv OR NOT protobuf_c)
    message(STATUS "There is no libuv.a (or libuv_a.a) or no libprotobuf-c.a (Debian: libuv1-dev, libprotobuf-c-dev)")
    return()
  endif()
  try_module(failure ${libuv} ${protobuf_c})
  if(failure)
    set(copy ${CMAKE_CURRENT_BINARY_DIR}/libuv_module.a)
    adapt_libuv(${libuv} ${copy})
    set(libuv ${copy})
    try_module(failure ${libuv} ${protobuf_c})
  endif()
  if(failure)
    message(STATUS "The archives of libuv and protobuf-c cannot become part of a Python module: ${failure}")
    return()
  endif()
  set(LIBUV_ARCHIVE ${libuv} PARENT_SCOPE)
  set(PROTOBUF_C_ARCHIVE ${protobuf_c} PARENT_SCOPE)
  set(TUTTI_STATIC_DEPENDENCIES ON PARENT_SCOPE)
endfunction()

if(TUTTI_STATIC_DEPENDENCIES OR TUTTI_STATIC_DEPENDENCIES STREQUAL AUTO)
  set(wanted ${TUTTI_STATIC_DEPENDENCIES})
  find_static_dependencies()
  if(NOT TUTTI_STATIC_DEPENDENCIES AND NOT wanted STREQUAL AUTO)
    message(FATAL_ERROR "TUTTI_STATIC_DEPENDENCIES=${wanted}, but libuv and protobuf-c cannot become part of the "
                        "package, for the reason above.  AUTO or OFF link their shared libraries instead.")
  endif()
endif()
