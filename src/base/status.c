#include "tutti/tutti.h"

const char *tutti_strerror(int status)
{
    switch (status) {
#define STATUS_TEXT(name, value, text)                                                                       \
    case value:                                                                                              \
        return text;
        TUTTI_STATUS_MAP(STATUS_TEXT)
#undef STATUS_TEXT
    default:
        return "unknown status";
    }
}

const char *tutti_error_name(int status)
{
    switch (status) {
#define STATUS_NAME(name, value, text)                                                                       \
    case value:                                                                                              \
        return "TUTTI_" #name;
        TUTTI_STATUS_MAP(STATUS_NAME)
#undef STATUS_NAME
    default:
        return "TUTTI_ERR_UNKNOWN";
    }
}
