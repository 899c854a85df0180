#include <libpq-fe.h>
#include <pg_config.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
