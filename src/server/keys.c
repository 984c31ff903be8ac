/* API keys: see keys.h. */
#include "server/keys.h"

#include <openssl/crypto.h>
#include <string.h>

#include "base/hash.h"
#include "base/io.h"

enum { MAX_FILE = 1 << 20, LEAST_KEY = 16, MOST_KEY = 512 };

static bool hash_of(tq_mem *mem, const char *key, size_t n, char hex[65]) {
    tq_sha256 *sha = tq_sha256_new(mem);
    if (!sha) return false;
    tq_sha256_add(sha, key, n);
    tq_sha256_end(sha, hex);
    return true;
}

static toque_status read_line(tq_keys *keys, const char *path, int number, char *line, toque_error *err) {
    line[strcspn(line, "#\r")] = 0;
    line += strspn(line, " \t");
    size_t n = strcspn(line, " \t");
    if (!n) return TOQUE_OK;
    const char *name = line + n + strspn(line + n, " \t");
    tq_key key = {0};
    snprintf(key.name, sizeof key.name, "%.*s", (int)strcspn(name, " \t"), name);
    if (strncmp(line, "sha256:", 7) == 0) {
        if (n != 7 + 64 || strspn(line + 7, "0123456789abcdef") < 64)
            return TQ_FAIL(err, EFORMAT, "%.300s, line %d: sha256: wants 64 hexadecimal digits in lower case", path,
                           number);
        memcpy(key.hash, line + 7, 64);
    } else {
        if (n < LEAST_KEY || n > MOST_KEY)
            return TQ_FAIL(err, EFORMAT, "%.300s, line %d: a key of %zu characters; expected %d to %d", path, number, n,
                           LEAST_KEY, MOST_KEY);
        if (!hash_of(keys->mem, line, n, key.hash)) return TQ_NOMEM(err);
    }
    if (!TQ_GROW(keys->mem, keys->items, keys->n, keys->cap)) return TQ_NOMEM(err);
    keys->items[keys->n++] = key;
    return TOQUE_OK;
}

toque_status tq_keys_read(tq_keys *keys, tq_mem *mem, const char *path, toque_error *err) {
    *keys = (tq_keys){.mem = mem};
    char *text;
    size_t size;
    TQ_TRY(tq_read_file(&text, &size, mem, path, MAX_FILE, err));
    toque_status status = TOQUE_OK;
    int number = 0;
    for (char *line = text, *next; status == TOQUE_OK && line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        status = read_line(keys, path, ++number, line, err);
    }
    OPENSSL_cleanse(text, size);
    tq_free(mem, text);
    if (status == TOQUE_OK && keys->n == 0)
        status = TQ_FAIL(err, EFORMAT, "%.300s holds no key; write one a line", path);
    if (status != TOQUE_OK) tq_keys_clear(keys);
    return status;
}

void tq_keys_clear(tq_keys *keys) {
    if (keys->mem) tq_free(keys->mem, keys->items);
    *keys = (tq_keys){0};
}

const char *tq_keys_find(const tq_keys *keys, const char *key) {
    char hash[65];
    const char *found = NULL;
    if (!key || strlen(key) > MOST_KEY || !hash_of(keys->mem, key, strlen(key), hash)) return NULL;
    for (size_t i = 0; i < keys->n; i++) /* all of them, whichever it is */
        if (CRYPTO_memcmp(hash, keys->items[i].hash, 64) == 0) found = keys->items[i].name;
    return found;
}
