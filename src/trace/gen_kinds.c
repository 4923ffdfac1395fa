/* SPDX-License-Identifier: Apache-2.0
 *
 * What each kind of session looks like: quantiles at 0, 10, 25, 50, 75, 90, 99 and 100 %.
 *
 * Changing a figure changes every generated trace and the golden sum in the tests.
 */
#include "trace/gen_kinds_priv.h"

/* clang-format off */
const struct yk_trace_kind_params yk_trace_kinds[YK_TRACE_KINDS] = {
    [YK_TRACE_CHAT] = {
        .name = "chat", .turns = 4, .catalogue_items = 12,
        .repeat_percent = 3, .edit_percent = 5,
        .catalogue_tokens = {  100,   200,   500,  1000,   1800,   3000,    4000,    4096},
        .first_tokens =     {   10,    40,   120,   500,   3000,  12000,   60000,  120000},
        .next_tokens =      {    5,    15,    40,   120,    500,   2000,   12000,   30000},
        .output_tokens =    {    1,    30,   120,   320,    520,    800,    2000,    4000},
        .pause_ms =         { 2000,  8000, 18000, 45000, 120000, 400000, 1800000, 3600000},
    },
    [YK_TRACE_SHARED] = {
        .name = "shared", .turns = 1, .catalogue_items = 64,
        .catalogue_tokens = {  800,  1200,  2000,  3500,   6000,   9000,   14000,   16000},
        .first_tokens =     {   10,    60,   200,   600,   1600,   4000,   12000,   24000},
        .output_tokens =    {    1,    10,    50,   150,    300,    600,    1500,    3000},
    },
    [YK_TRACE_AGENT] = {
        .name = "agent", .turns = 40, .catalogue_items = 4, .tool_percent = 85, .compacts = true,
        .catalogue_tokens = {10000, 12000, 15000, 18000,  21000,  24000,   26000,   26000},
        .first_tokens =     {   50,   120,   300,   900,   2500,   6000,   20000,   40000},
        .next_tokens =      {   30,    90,   250,   700,   1800,   4500,   15000,   30000},
        .output_tokens =    {   20,    60,   100,   200,    400,    900,    3000,    8000},
        .pause_ms =         { 5000, 15000, 40000,120000, 400000,1500000, 3600000, 7200000},
        .tool_pause_ms =    {  300,  2000,  6000, 15000,  40000, 120000,  300000,  600000},
        .summary_tokens =   { 1500,  2000,  3000,  4500,   6000,   8000,   12000,   16000},
    },
    [YK_TRACE_DOCUMENT] = {
        .name = "document", .turns = 3, .catalogue_items = YK_CATALOGUE_MAX,
        .catalogue_tokens = { 6000, 10000, 18000, 32000,  52000,  80000,  115000,  120000},
        .first_tokens =     {   10,    20,    40,    70,    130,    300,     900,    2000},
        .next_tokens =      {   10,    20,    40,    70,    130,    300,     900,    2000},
        .output_tokens =    {   10,    60,   150,   350,    700,   1200,    2500,    4000},
        .pause_ms =         { 3000, 10000, 25000, 60000, 180000, 600000, 1800000, 3600000},
    },
};
/* clang-format on */

const char *yk_trace_kind_name(int kind) {
    return kind >= 0 && kind < YK_TRACE_KINDS ? yk_trace_kinds[kind].name : NULL;
}
