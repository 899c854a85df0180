#include <libpq-fe.h>
#include <pg_config.h>
