/*
 * An iSCSI target that does next to nothing, so that the initiator is the only thing that can be slow.
 *
 * Every read gives the same bytes, with the status in the last Data-In; the data of writes is thrown away, in the kernel
 * where it can be (MSG_TRUNC, tcp(7)). The digests of canned data are computed once; those that arrive are skipped and
 * not checked. All answers to what one receive brought leave together. Each connection has a thread.
 *
 *   nulltarget          listens on 127.0.0.1, prints its port, and ends when its standard input does
 *
 * Built on demand by tests/bench/build.py. It is no example of a target: it checks nothing.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BHS = 48, SEGMENT = 262144, WINDOW = 512, BLOCKS = 256 << 11, TAGS = 4096 };
enum { STAGING = 65536, VECTORS = 1024, HEADERS = 512, KEYS = 16384 };
#define NO_TAG 0xffffffffu

struct burst { /* a write whose data has not all been asked for */
    uint32_t tag, have, expected, r2t_sn;
};

struct connection {
    int fd;
    uint32_t stat_sn, exp_cmd_sn;
    uint32_t max_send, first_burst, max_burst; /* what was agreed on, in bytes */
    int header_digest, data_digest;            /* 4 or 0 */
    struct burst bursts[TAGS];
    unsigned char staging[STAGING];
    size_t filled;
    struct iovec out[VECTORS];
    int vectors;
    unsigned char headers[HEADERS][BHS + 8]; /* header, its digest, the digest of the data */
    int used;
};

static unsigned char canned[SEGMENT];
static uint32_t canned_digest[SEGMENT / 512 + 1]; /* by length in sectors; 0 if not known yet */
static const unsigned char zeroes[8];

static uint32_t crc32c(const unsigned char *data, size_t length)
{
    uint64_t crc = 0xffffffff;
#ifdef __SSE4_2__
    for (; length >= 8; data += 8, length -= 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        crc = __builtin_ia32_crc32di(crc, word);
    }
    for (; length; data++, length--)
        crc = __builtin_ia32_crc32qi((uint32_t)crc, *data);
#else
    for (; length; data++, length--) {
        crc ^= *data;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
    }
#endif
    return (uint32_t)crc ^ 0xffffffff;
}

static uint32_t get32(const unsigned char *at)
{
    uint32_t word;
    memcpy(&word, at, 4);
    return be32toh(word);
}

static void put32(unsigned char *at, uint32_t word)
{
    word = htobe32(word);
    memcpy(at, &word, 4);
}

static int flush(struct connection *c)
{
    struct iovec *next = c->out;
    int left = c->vectors;
    c->vectors = c->used = 0;
    while (left) {
        ssize_t sent = writev(c->fd, next, left);
        if (sent < 0)
            return -1;
        for (; left && (size_t)sent >= next->iov_len; next++, left--)
            sent -= next->iov_len;
        if (left) {
            next->iov_base = (char *)next->iov_base + sent;
            next->iov_len -= sent;
        }
    }
    return 0;
}

static void add(struct connection *c, const void *data, size_t length)
{
    c->out[c->vectors++] = (struct iovec){(void *)data, length};
}

/* A header to fill in; it leaves with the next flush. NULL if the initiator is gone. */
static unsigned char *header(struct connection *c, int opcode, int flags, uint32_t tag)
{
    if ((c->used == HEADERS || c->vectors + 4 > VECTORS) && flush(c))
        return NULL;
    unsigned char *bhs = c->headers[c->used++];
    memset(bhs, 0, BHS);
    bhs[0] = opcode;
    bhs[1] = flags;
    put32(bhs + 16, tag);
    put32(bhs + 20, NO_TAG);
    put32(bhs + 28, c->exp_cmd_sn);
    put32(bhs + 32, c->exp_cmd_sn + WINDOW);
    return bhs;
}

/* Queue a finished header with its data (`data` must stay until the next flush). */
static void seal(struct connection *c, unsigned char *bhs, const unsigned char *data, size_t length)
{
    uint32_t digest;
    put32(bhs + 4, length);
    if (c->header_digest) {
        digest = htole32(crc32c(bhs, BHS));
        memcpy(bhs + BHS, &digest, 4);
    }
    add(c, bhs, BHS + c->header_digest);
    if (!length)
        return;
    add(c, data, length);
    if (length % 4)
        add(c, zeroes, 4 - length % 4);
    if (!c->data_digest)
        return;
    if (data == canned && length % 512 == 0) {
        uint32_t *known = &canned_digest[length / 512];
        if (!*known)
            *known = crc32c(data, length);
        digest = htole32(*known);
    } else {
        unsigned char padded[4096] = {0};
        memcpy(padded, data, length);
        digest = htole32(crc32c(padded, (length + 3) & ~(size_t)3));
    }
    memcpy(bhs + BHS + 4, &digest, 4);
    add(c, bhs + BHS + 4, 4);
}

static int read_command(struct connection *c, uint32_t tag, uint32_t expected, const unsigned char *data)
{
    uint32_t offset = 0, number = 0;
    do {
        uint32_t size = expected - offset < c->max_send ? expected - offset : c->max_send;
        int last = offset + size == expected;
        unsigned char *bhs = header(c, 0x25, last ? 0x81 : 0, tag);
        if (!bhs)
            return -1;
        if (last)
            put32(bhs + 24, c->stat_sn++);
        put32(bhs + 36, number++);
        put32(bhs + 40, offset);
        seal(c, bhs, data, size);
        offset += size;
    } while (offset < expected);
    return 0;
}

static int respond(struct connection *c, int opcode, uint32_t tag, int flags, uint32_t residual)
{
    unsigned char *bhs = header(c, opcode, 0x80 | flags, tag);
    if (!bhs)
        return -1;
    put32(bhs + 20, 0);
    put32(bhs + 24, c->stat_sn++);
    put32(bhs + 44, residual);
    seal(c, bhs, NULL, 0);
    return 0;
}

/* Ask for the next burst of a write, or end it. */
static int go_on(struct connection *c, struct burst *burst)
{
    if (burst->have == burst->expected)
        return respond(c, 0x21, burst->tag, 0, 0);
    uint32_t left = burst->expected - burst->have, size = left < c->max_burst ? left : c->max_burst;
    unsigned char *bhs = header(c, 0x31, 0x80, burst->tag);
    if (!bhs)
        return -1;
    bhs[9] = 1; /* the LUN that everybody uses */
    put32(bhs + 20, burst->tag);
    put32(bhs + 24, c->stat_sn);
    put32(bhs + 36, burst->r2t_sn++);
    put32(bhs + 40, burst->have);
    put32(bhs + 44, size);
    seal(c, bhs, NULL, 0);
    burst->have += size;
    return 0;
}

/* What an initiator asks before it reads: INQUIRY, READ CAPACITY, REPORT LUNS. */
static int small_command(struct connection *c, uint32_t tag, uint32_t expected, const unsigned char *cdb)
{
    static const unsigned char inquiry[36] = "\0\0\5\2\37\0\0\2MOORING NULL            0001";
    static const unsigned char luns[16] = {0, 0, 0, 8, 0, 0, 0, 0, 0, 1};
    static unsigned char capacity[32];
    const unsigned char *data = NULL;
    uint32_t length = 0;
    switch (cdb[0]) {
    case 0x12:
        data = inquiry, length = sizeof inquiry;
        break;
    case 0x25:
        put32(capacity, BLOCKS - 1), put32(capacity + 4, 512);
        data = capacity, length = 8;
        break;
    case 0x9e:
        put32(capacity, 0), put32(capacity + 4, BLOCKS - 1), put32(capacity + 8, 512);
        data = capacity, length = 32;
        break;
    case 0xa0:
        data = luns, length = sizeof luns;
        break;
    }
    if (!data || !expected)
        return respond(c, 0x21, tag, expected ? 2 : 0, expected);
    if (length > expected)
        length = expected;
    unsigned char *bhs = header(c, 0x25, length < expected ? 0x83 : 0x81, tag);
    if (!bhs)
        return -1;
    put32(bhs + 24, c->stat_sn++);
    put32(bhs + 44, expected - length);
    seal(c, bhs, data, length);
    return flush(c); /* `capacity` is shared by all connections */
}

static int command(struct connection *c, const unsigned char *bhs, uint32_t length)
{
    uint32_t tag = get32(bhs + 16), expected = get32(bhs + 20);
    const unsigned char *cdb = bhs + 32;
    if (!(bhs[0] & 0x40))
        c->exp_cmd_sn = get32(bhs + 24) + 1;
    if (bhs[1] & 0x20) {
        struct burst *burst = &c->bursts[tag % TAGS];
        uint32_t have = bhs[1] & 0x80 ? length : c->first_burst < expected ? c->first_burst : expected;
        *burst = (struct burst){tag, have, expected, 0};
        return bhs[1] & 0x80 ? go_on(c, burst) : 0;
    }
    if (cdb[0] == 0x28 || cdb[0] == 0x88)
        return read_command(c, tag, expected, canned);
    return small_command(c, tag, expected, cdb);
}

static int ping(struct connection *c, const unsigned char *bhs, const unsigned char *data, uint32_t length)
{
    if (get32(bhs + 16) == NO_TAG)
        return 0;
    unsigned char *answer = header(c, 0x20, 0x80, get32(bhs + 16));
    if (!answer)
        return -1;
    put32(answer + 24, c->stat_sn++);
    seal(c, answer, data, length);
    return flush(c); /* the data lies in the staging buffer */
}

static int handle(struct connection *c, const unsigned char *bhs, uint32_t length)
{
    uint32_t tag = get32(bhs + 16);
    switch (bhs[0] & 0x3f) {
    case 0x00:
        return ping(c, bhs, bhs + BHS + c->header_digest, length);
    case 0x01:
        return command(c, bhs, length);
    case 0x02:
        return respond(c, 0x22, tag, 0, 0);
    case 0x05:
        return bhs[1] & 0x80 ? go_on(c, &c->bursts[tag % TAGS]) : 0;
    case 0x06:
        return respond(c, 0x26, tag, 0, 0) || flush(c) ? -1 : -1;
    }
    return -1;
}

static int skip(struct connection *c, size_t count)
{
    while (count) {
        ssize_t got = recv(c->fd, NULL, count, MSG_TRUNC);
        if (got <= 0)
            return -1;
        count -= got;
    }
    return 0;
}

/* Handle what is complete in the staging buffer; the payload of a write need not be. */
static int parse(struct connection *c)
{
    size_t start = 0, beyond = 0;
    while (c->filled - start >= (size_t)(BHS + c->header_digest)) {
        const unsigned char *bhs = c->staging + start;
        uint32_t length = get32(bhs + 4) & 0xffffff;
        size_t end = start + BHS + c->header_digest + ((length + 3) & ~3u) + (length ? c->data_digest : 0);
        int opcode = bhs[0] & 0x3f;
        if (end > c->filled) {
            if (opcode != 0x01 && opcode != 0x05)
                break;
            beyond = end - c->filled;
            end = c->filled;
        }
        if (beyond && (flush(c) || skip(c, beyond)))
            return -1;
        if (handle(c, bhs, length))
            return -1;
        start = end;
        if (beyond)
            break;
    }
    memmove(c->staging, c->staging + start, c->filled - start);
    c->filled -= start;
    return flush(c);
}

/* --- login ----------------------------------------------------------------------------------------------------- */

struct answers {
    char text[KEYS];
    size_t length;
};

static void say(struct answers *answers, const char *key, const char *value)
{
    answers->length += snprintf(answers->text + answers->length, KEYS - answers->length, "%s=%s", key, value) + 1;
}

static int digest(struct answers *answers, const char *key, const char *value)
{
    int wanted = !strncmp(value, "CRC32C", 6);
    say(answers, key, wanted ? "CRC32C" : "None");
    return wanted ? 4 : 0;
}

/* Most keys are agreed on as the initiator wants them. */
static void negotiate(struct connection *c, struct answers *answers, const char *key, const char *value)
{
    static const char *same[] = {"InitialR2T",       "ImmediateData",        "MaxBurstLength",
                                 "FirstBurstLength", "MaxOutstandingR2T",    "DefaultTime2Wait",
                                 "DefaultTime2Retain", "DataPDUInOrder",     "DataSequenceInOrder",
                                 "IFMarker",         "OFMarker"};
    static const char *silent[] = {"InitiatorName", "InitiatorAlias", "TargetName", "SessionType"};
    if (!strcmp(key, "HeaderDigest"))
        c->header_digest = digest(answers, key, value);
    else if (!strcmp(key, "DataDigest"))
        c->data_digest = digest(answers, key, value);
    else if (!strcmp(key, "AuthMethod"))
        say(answers, key, "None");
    else if (!strcmp(key, "MaxConnections"))
        say(answers, key, "1");
    else if (!strcmp(key, "ErrorRecoveryLevel"))
        say(answers, key, "0");
    else if (!strcmp(key, "MaxRecvDataSegmentLength")) {
        uint32_t theirs = strtoul(value, NULL, 0);
        c->max_send = theirs < SEGMENT ? theirs : SEGMENT;
        say(answers, key, "262144");
    } else {
        for (size_t i = 0; i < sizeof silent / sizeof *silent; i++)
            if (!strcmp(key, silent[i]))
                return;
        if (!strcmp(key, "FirstBurstLength"))
            c->first_burst = strtoul(value, NULL, 0);
        if (!strcmp(key, "MaxBurstLength"))
            c->max_burst = strtoul(value, NULL, 0);
        for (size_t i = 0; i < sizeof same / sizeof *same; i++)
            if (!strcmp(key, same[i])) {
                say(answers, key, value);
                return;
            }
        say(answers, key, "NotUnderstood");
    }
}

static int exactly(int fd, unsigned char *into, size_t count)
{
    return count == 0 || recv(fd, into, count, MSG_WAITALL) == (ssize_t)count ? 0 : -1;
}

static int login(struct connection *c)
{
    for (int first = 1;; first = 0) {
        unsigned char bhs[BHS], answer[BHS] = {0};
        char text[KEYS + 4];
        struct answers answers = {.length = 0};
        if (exactly(c->fd, bhs, BHS) || (bhs[0] & 0x3f) != 0x03)
            return -1;
        uint32_t length = get32(bhs + 4) & 0xffffff;
        if (length > KEYS || exactly(c->fd, (unsigned char *)text, (length + 3) & ~3u))
            return -1;
        text[length] = 0;
        for (char *pair = text; pair < text + length; pair += strlen(pair) + 1) {
            char *value = strchr(pair, '=');
            if (!value)
                continue;
            *value = 0;
            negotiate(c, &answers, pair, value + 1);
            *value = '=';
        }
        if (first)
            say(&answers, "TargetPortalGroupTag", "1");
        int final = (bhs[1] & 0x83) == 0x83;
        answer[0] = 0x23;
        answer[1] = bhs[1] & 0x8f;
        memcpy(answer + 8, bhs + 8, 12); /* ISID, TSIH, task tag */
        if (final)
            answer[15] = 1;
        put32(answer + 4, answers.length);
        c->exp_cmd_sn = get32(bhs + 24);
        put32(answer + 24, c->stat_sn++);
        put32(answer + 28, c->exp_cmd_sn);
        put32(answer + 32, c->exp_cmd_sn + WINDOW);
        size_t padding = -answers.length & 3;
        memset(answers.text + answers.length, 0, padding);
        struct iovec out[] = {{answer, BHS}, {answers.text, answers.length + padding}};
        if (writev(c->fd, out, 2) != (ssize_t)(BHS + answers.length + padding))
            return -1;
        if (final)
            return 0;
    }
}

static void *serve(void *given)
{
    struct connection *c = given;
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (!login(c)) {
        for (;;) {
            ssize_t got = recv(c->fd, c->staging + c->filled, STAGING - c->filled, 0);
            if (got <= 0)
                break;
            c->filled += got;
            if (parse(c))
                break;
        }
    }
    close(c->fd);
    free(c);
    return NULL;
}

static void *end_with_input(void *unused)
{
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    exit(0);
    return unused;
}

int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    pthread_t thread;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    for (size_t i = 0; i < sizeof canned; i++)
        canned[i] = i;
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) || listen(listener, 16) ||
        getsockname(listener, (struct sockaddr *)&address, &size)) {
        perror("nulltarget");
        return 1;
    }
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    pthread_create(&thread, NULL, end_with_input, NULL);
    for (;;) {
        struct connection *c = calloc(1, sizeof *c);
        if (!c || (c->fd = accept(listener, NULL, NULL)) < 0)
            return 1;
        c->stat_sn = 1;
        c->max_send = 8192;
        c->first_burst = 65536;
        c->max_burst = 262144;
        if (pthread_create(&thread, NULL, serve, c))
            return 1;
        pthread_detach(thread);
    }
}
