# Write the extension's metadata, one "NAME=value" a line, where the test reads it.
set(lines "PROJECT_NAME=${PROJECT_NAME}\n")
foreach(name HOMEPAGE CATEGORY CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS KEYWORDS)
  string(APPEND lines "${name}=${EXTENSION_${name}}\n")
endforeach()
get_property(tests GLOBAL PROPERTY python_unittests)
string(APPEND lines "PYTHON_UNITTESTS=${tests}\n")
file(WRITE ${CMAKE_BINARY_DIR}/extension.txt "${lines}")
