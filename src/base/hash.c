/* SHA-256. See hash.h. */
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct tq_sha256 {
    tq_mem *mem;
    EVP_MD_CTX *md;
};

tq_sha256 *tq_sha256_new(tq_mem *mem) {
    tq_sha256 *sha = TQ_NEW(mem, tq_sha256);
    if (!sha) return NULL;
    sha->mem = mem;
    sha->md = EVP_MD_CTX_new();
    if (!sha->md || EVP_DigestInit_ex(sha->md, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(sha->md);
        tq_free(mem, sha);
        return NULL;
    }
    return sha;
}

void tq_sha256_add(tq_sha256 *sha, const void *data, size_t n) {
    EVP_DigestUpdate(sha->md, data, n);
}

void tq_sha256_end(tq_sha256 *sha, char hex[65]) {
    unsigned char digest[32];
    EVP_DigestFinal_ex(sha->md, digest, NULL);
    for (int i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    EVP_MD_CTX_free(sha->md);
    tq_free(sha->mem, sha);
}

toque_status tq_sha256_file(tq_mem *mem, const char *path, char hex[65], toque_error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return TQ_FAIL(err, EIO, "cannot open %s: %s", path, strerror(errno));
    tq_sha256 *sha = tq_sha256_new(mem);
    if (!sha) {
        close(fd);
        return TQ_NOMEM(err);
    }
    char chunk[65536];
    ssize_t n;
    while ((n = read(fd, chunk, sizeof chunk)) > 0 || (n < 0 && errno == EINTR))
        if (n > 0) tq_sha256_add(sha, chunk, (size_t)n);
    int e = errno;
    close(fd);
    tq_sha256_end(sha, hex);
    return n < 0 ? TQ_FAIL(err, EIO, "cannot read %s: %s", path, strerror(e)) : TOQUE_OK;
}
