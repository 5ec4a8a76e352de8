# Builds against ROS 2 from PyPI wheels only. Two things stand in CMake's way; both are put right once all packages have
# been found and all targets exist:
# 1. the wheels' exported targets name include folders of the machine that built them, and CMake stops at a folder that
#    does not exist: drop those entries;
# 2. the generated Python target names NumPy's headers, and CMake refuses to export a path below the source folder, which
#    is where they are when the environment is .venv in this folder: keep that entry for this build alone.
function(_filter_include_directories target)
  get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
  if(NOT directories)
    return()
  endif()
  set(kept "")
  foreach(directory IN LISTS directories)
    string(FIND "${directory}" "${CMAKE_CURRENT_SOURCE_DIR}/" position)
    if(position EQUAL 0)
      list(APPEND kept "$<BUILD_INTERFACE:${directory}>")
    elseif(directory MATCHES "^\\$<" OR EXISTS "${directory}")
      list(APPEND kept "${directory}")
    endif()
  endforeach()
  set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${kept}")
endfunction()

function(_filter_all_include_directories)
  get_property(imported DIRECTORY PROPERTY IMPORTED_TARGETS)
  get_property(own DIRECTORY PROPERTY BUILDSYSTEM_TARGETS)
  foreach(target IN LISTS imported own)
    _filter_include_directories(${target})
  endforeach()
endfunction()
cmake_language(DEFER CALL _filter_all_include_directories)
