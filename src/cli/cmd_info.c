/* toque info: what this build and this machine offer. */
#include <curl/curl.h>
#include <openssl/crypto.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include <yaml.h>

#include "cli/cli.h"

static const char *compute_name(const tq_ctx *ctx) {
    return ctx->compute == TQ_COMPUTE_BF16 ? "bf16" : ctx->compute == TQ_COMPUTE_INT8 ? "int8" : "f32";
}

static json_t *isa_rows(void) {
    json_t *rows = json_array();
    bool usable;
    const tq_kernels *k;
    for (int i = 0; (k = tq_kernels_row(i, &usable)); i++)
        if (json_array_append_new(rows, json_pack("{s:s, s:b}", "name", k->isa, "usable", usable)) < 0) break;
    return rows;
}

static json_t *libraries(void) {
    char pcre2[64] = "";
    (void)pcre2_config(PCRE2_CONFIG_VERSION, pcre2);
    pcre2[strcspn(pcre2, " ")] = 0; /* the date behind it */
    const curl_version_info_data *c = curl_version_info(CURLVERSION_NOW);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "jansson", jansson_version_str(), "libyaml",
                     yaml_get_version_string(), "pcre2", pcre2, "utf8proc", utf8proc_version(), "libcurl", c->version,
                     "libcrypto", OpenSSL_version(OPENSSL_VERSION_STRING), "sqlite", sqlite3_libversion());
}

/* What this build has of what it can do without. */
static json_t *optional(void) {
    json_t *list = json_array();
#ifdef TQ_HAVE_LIBEDIT
    json_array_append_new(list, json_string("libedit"));
#endif
#ifdef TQ_HAVE_LIBPQ
    json_array_append_new(list, json_string("libpq"));
#endif
#ifdef TQ_HAVE_GMIME
    json_array_append_new(list, json_string("gmime"));
#endif
    return list;
}

static void print_text(json_t *info) {
    printf("toque %s\n", json_string_value(json_object_get(info, "version")));
    printf("instruction set: %s (usable:", json_string_value(json_object_get(info, "isa")));
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(info, "isa_rows"), i, row) if (json_is_true(json_object_get(row, "usable")))
        printf(" %s", json_string_value(json_object_get(row, "name")));
    printf(")\nthreads: %lld\n", (long long)json_integer_value(json_object_get(info, "threads")));
    printf("compute: %s, int8 for generation: %s\n", json_string_value(json_object_get(info, "compute")),
           json_is_true(json_object_get(info, "int8")) ? "yes" : "no");
    printf("memory: %.2f GB available, %.2f GB may be used\n",
           (double)json_integer_value(json_object_get(info, "memory_available")) / 1e9,
           (double)json_integer_value(json_object_get(info, "memory_limit")) / 1e9);
    const char *name;
    json_t *version;
    printf("libraries:");
    json_object_foreach(json_object_get(info, "libraries"), name, version)
        printf(" %s %s", name, json_string_value(version));
    printf("\noptional features:");
    json_array_foreach(json_object_get(info, "optional"), i, row) printf(" %s", json_string_value(row));
    printf("%s\n", json_array_size(json_object_get(info, "optional")) ? "" : " none in this build");
}

static toque_status run(tq_cli *cli, void *options, toque_error *err) {
    (void)options;
    tq_ctx *ctx;
    TQ_TRY(tq_cli_ctx(cli, &ctx, err));
    json_t *info =
        json_pack("{s:s, s:s, s:o, s:i, s:s, s:b, s:I, s:I, s:o, s:o}", "version", TOQUE_VERSION, "isa", ctx->k->isa,
                  "isa_rows", isa_rows(), "threads", tq_pool_threads(ctx->pool), "compute", compute_name(ctx), "int8",
                  ctx->int8, "memory_available", (json_int_t)tq_memory_available(""), "memory_limit",
                  (json_int_t)ctx->mem.limit, "libraries", libraries(), "optional", optional());
    if (!info) return TQ_NOMEM(err);
    if (cli->common.json) return tq_cli_json(cli, info, err);
    print_text(info);
    json_decref(info);
    return TOQUE_OK;
}

const tq_command tq_cmd_info = {
    .name = "info",
    .group = TQ_GROUP_OTHER,
    .summary = "Show the version, this machine's abilities and the libraries in use",
    .usage = "[OPTIONS]",
    .example = "toque info --json",
    .run = run,
};
