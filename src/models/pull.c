/* Pulling. See pull.h. Sources become URLs here; fetch.c moves the bytes, store.c keeps them. */
#include "models/pull.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/hash.h"
#include "models/fetch.h"
#include "models/store.h"

enum { MAX_URL = 4096 };

/* ---- sources ----------------------------------------------------------------------------------------------- */

static const char *endpoint(void) {
    const char *e = getenv("HF_ENDPOINT");
    return e && *e ? e : "https://huggingface.co";
}

static bool is_url(const char *s) {
    return strncasecmp(s, "http://", 7) == 0 || strncasecmp(s, "https://", 8) == 0;
}

/* Percent-encodes all but unreserved characters and '/' (RFC 3986). */
static void put_path(tq_buf *b, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._~/", c))
            tq_buf_putc(b, c);
        else
            tq_buf_printf(b, "%%%02X", (unsigned)(uint8_t)c);
    }
}

/* OWNER/REPO of n bytes: two parts of plain characters. */
static bool repo_ok(const char *s, size_t n) {
    const char *slash = memchr(s, '/', n);
    if (!slash || slash == s || slash == s + n - 1 || s[0] == '.' || slash[1] == '.') return false;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._", c);
        if (!c || !(plain || s + i == slash)) return false;
    }
    return true;
}

/* A path below the repository: no empty, "." or ".." part. */
static bool file_ok(const char *file) {
    for (const char *p = file;; p++) {
        size_t n = strcspn(p, "/");
        if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.')) return false;
        p += n;
        if (!*p) return true;
    }
}

/* Splits a hub's source; false if it is none. */
static bool split_hub(const char *source, const char **repo, size_t *repo_len, const char **file) {
    *repo = source;
    if (strncmp(source, "hf:", 3) == 0) {
        *repo = source + 3;
        const char *slash = strchr(*repo, '/');
        *file = slash ? strchr(slash + 1, '/') : NULL;
        if (!*file) *file = strchr(*repo, ':');
    } else {
        *file = strchr(source, ':');
    }
    if (!*file) return false;
    *repo_len = (size_t)(*file - *repo);
    ++*file;
    return repo_ok(*repo, *repo_len) && file_ok(*file);
}

static toque_status check_url(const char *url, toque_error *err) {
    const char *host = strstr(url, "//") + 2;
    size_t n = strcspn(host, "/?#");
    for (const char *p = url; *p; p++)
        if ((uint8_t)*p <= 0x20 || *p == 0x7f)
            return TQ_FAIL(err, EINVAL, "the URL %.200s holds spaces or control characters; write them as %%20", url);
    if (n == 0) return TQ_FAIL(err, EINVAL, "the URL %.200s names no host", url);
    if (memchr(host, '@', n))
        return TQ_FAIL(err, EUNSUPPORTED,
                       "a URL with a user name or password is not taken: it would stay in the store");
    if (strlen(url) > MAX_URL) return TQ_FAIL(err, ELIMIT, "the URL is longer than %d bytes", MAX_URL);
    return TOQUE_OK;
}

static toque_status take(char **out, tq_buf *b, const char *what, toque_error *err) {
    toque_status status = tq_buf_status(b, what, err);
    *out = status == TOQUE_OK ? tq_buf_take(b) : NULL;
    if (status == TOQUE_OK && !*out) status = TQ_NOMEM(err);
    tq_buf_clear(b);
    return status;
}

static toque_status hub_url(char **url, char **noted, tq_mem *mem, const char *source, toque_error *err) {
    const char *repo, *file, *base = endpoint();
    size_t n, m = strlen(base);
    if (!is_url(base)) return TQ_FAIL(err, EINVAL, "HF_ENDPOINT is %.200s, expected an http or https URL", base);
    TQ_TRY(check_url(base, err));
    if (!split_hub(source, &repo, &n, &file))
        return TQ_FAIL(err, EINVAL,
                       "%.200s is neither a file nor a source; sources are hf:OWNER/REPO/FILE.gguf, "
                       "OWNER/REPO:FILE.gguf, https://HOST/FILE.gguf and local files",
                       source);
    while (m && base[m - 1] == '/') m--;
    tq_buf b;
    tq_buf_init(&b, mem, MAX_URL);
    tq_buf_put(&b, base, m);
    tq_buf_putc(&b, '/');
    tq_buf_put(&b, repo, n);
    tq_buf_puts(&b, "/resolve/main/");
    put_path(&b, file, strlen(file));
    TQ_TRY(take(url, &b, "the URL", err));
    tq_buf_printf(&b, "hf:%.*s/%s", (int)n, repo, file);
    toque_status status = take(noted, &b, "the source", err);
    if (status != TOQUE_OK) {
        tq_free(mem, *url);
        *url = NULL;
    }
    return status;
}

toque_status tq_pull_url(char **url, char **noted, tq_mem *mem, const char *source, toque_error *err) {
    *url = *noted = NULL;
    if (is_url(source)) {
        TQ_TRY(check_url(source, err));
        *url = tq_strdup(mem, source);
        *noted = tq_strndup(mem, source, strcspn(source, "?#")); /* a query may hold a signature */
        if (*url && *noted) return TOQUE_OK;
        tq_free(mem, *url);
        tq_free(mem, *noted);
        *url = *noted = NULL;
        return TQ_NOMEM(err);
    }
    if (strncmp(source, "hf:", 3) != 0 && tq_path_exists(source)) return TOQUE_OK;
    return hub_url(url, noted, mem, source, err);
}

/* ---- pulling ----------------------------------------------------------------------------------------------- */

static bool hash_ok(const char *s) {
    return strlen(s) == 64 && strspn(s, "0123456789abcdefABCDEF") == 64;
}

/* downloads/HASH.part, named after the URL so that the same source finds its own beginning again. */
static toque_status part_path(char **part, tq_mem *mem, const char *url, toque_error *err) {
    char *root = NULL, *dir = NULL, hex[65], name[48];
    *part = NULL;
    tq_sha256 *sha = tq_sha256_new(mem);
    if (!sha) return TQ_NOMEM(err);
    tq_sha256_add(sha, url, strlen(url));
    tq_sha256_end(sha, hex);
    snprintf(name, sizeof name, "%.32s.part", hex);
    toque_status status;
    TQ_GO(tq_store_dir(&root, mem, err));
    dir = tq_path_join(mem, root, "downloads");
    if (!dir) {
        status = TQ_NOMEM(err);
        goto done;
    }
    TQ_GO(tq_make_dirs(mem, dir, err));
    *part = tq_path_join(mem, dir, name);
    if (!*part) status = TQ_NOMEM(err);
done:
    tq_free(mem, dir);
    tq_free(mem, root);
    return status;
}

static toque_status check_hash(tq_mem *mem, const char *part, const char *want, const char *who, char got[65],
                               toque_error *err) {
    TQ_TRY(tq_sha256_file(mem, part, got, err));
    if (!*want || strcasecmp(want, got) == 0) return TOQUE_OK;
    tq_fetch_forget(mem, part);
    return TQ_FAIL(err, EFORMAT,
                   "the file that arrived has SHA-256 %s, %s %s; it was deleted: try again, or mistrust the "
                   "source",
                   got, who, want);
}

static toque_status download(tq_mem *mem, const tq_pull *pull, const char *url, const char *noted, const char *name,
                             toque_error *err) {
    char *part, announced[65], hash[65];
    int held = -1;
    const char *token = getenv("HF_TOKEN");
    for (const char *p = token; p && *p; p++)
        if ((uint8_t)*p <= 0x20 || (uint8_t)*p >= 0x7f)
            return TQ_FAIL(err, EINVAL, "HF_TOKEN holds a space, a line break or another character that no token has");
    TQ_TRY(part_path(&part, mem, url, err));
    const tq_fetch fetch = {.url = url,
                            .part = part,
                            .token = token && *token ? token : NULL,
                            .token_origin = endpoint(),
                            .progress = pull->progress,
                            .arg = pull->arg};
    toque_status status;
    TQ_GO(tq_fetch_file(&fetch, mem, &held, announced, err));
    TQ_GO(check_hash(mem, part, pull->sha256 ? pull->sha256 : announced,
                     pull->sha256 ? "expected was" : "the hub announces", hash, err));
    status = tq_store_adopt(mem, part, name, noted, hash, err);
    /* A whole file that is no GGUF stays useless: the next pull shall not start from it. */
    if (status == TOQUE_OK || status == TOQUE_EFORMAT || status == TOQUE_EUNSUPPORTED) tq_fetch_forget(mem, part);
done:
    if (held >= 0) close(held);
    tq_free(mem, part);
    return status;
}

toque_status tq_pull_model(char **name, tq_mem *mem, const tq_pull *pull, toque_error *err) {
    char *url, *noted, *own = NULL;
    *name = NULL;
    if (pull->sha256 && !hash_ok(pull->sha256))
        return TQ_FAIL(err, EINVAL, "a SHA-256 has 64 hexadecimal digits, not \"%.80s\"", pull->sha256);
    TQ_TRY(tq_pull_url(&url, &noted, mem, pull->source, err));
    toque_status status = TOQUE_OK;
    if (!url) {
        char hash[65];
        if (pull->sha256) {
            TQ_GO(tq_sha256_file(mem, pull->source, hash, err));
            if (strcasecmp(hash, pull->sha256) != 0) {
                status =
                    TQ_FAIL(err, EFORMAT, "%.200s has SHA-256 %s, expected was %s", pull->source, hash, pull->sha256);
                goto done;
            }
        }
        status = tq_store_add_file(name, mem, pull->source, pull->name, err);
        goto done;
    }
    own = pull->name ? tq_strdup(mem, pull->name) : tq_store_name_of(mem, noted);
    if (!own) {
        status = TQ_NOMEM(err);
        goto done;
    }
    TQ_GO(tq_store_check_new(mem, own, err));
    TQ_GO(download(mem, pull, url, noted, own, err));
    *name = own;
    own = NULL;
done:
    tq_free(mem, own);
    tq_free(mem, url);
    tq_free(mem, noted);
    return status;
}
