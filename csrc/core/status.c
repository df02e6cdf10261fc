/* SPDX-License-Identifier: Apache-2.0
 * Status codes as text.
 */
#include "edgefl.h"

const char *efl_status_text(efl_status status)
{
    switch (status) {
    case EFL_OK:
        return "ok";
    case EFL_E_SHAPE:
        return "a dimension is out of range or shapes do not fit each other";
    case EFL_E_RANGE:
        return "a number is outside its documented range";
    case EFL_E_NULL:
        return "a required pointer is null";
    case EFL_E_SIZE:
        return "a buffer is too small";
    case EFL_E_OP:
        return "unknown operator";
    case EFL_E_SCALE:
        return "a scale is not finite, not positive or too large";
    case EFL_E_AUTH:
        return "authentication failed";
    default:
        return "unknown status";
    }
}
