/* SPDX-License-Identifier: Apache-2.0
 *
 * Whose bytes are these? For the line that says why a device is not formatted without being asked to.
 *
 * A handful of signatures, each at the place that its own documentation gives; anything else that is
 * not zero is `unknown data`, which is refused as well. Linking libblkid for a better name was not
 * worth a dependency.
 */
#include "tier/ssd/format.h"

#include <string.h>

struct signature {
    uint32_t at;
    uint32_t len;
    const char *bytes;
    const char *name;
};

static const struct signature signatures[] = {
    {1080, 2, "\x53\xef", "an ext2, ext3 or ext4 file system"},
    {0, 4, "XFSB", "an XFS file system"},
    {65600, 8, "_BHRfS_M", "a btrfs file system"},
    {1024, 4, "\x10\x20\xf5\xf2", "an F2FS file system"},
    {0, 6, "LUKS\xba\xbe", "a LUKS volume"},
    {512, 8, "LABELONE", "an LVM physical volume"},
    {4096, 4, "\xfc\x4e\x2b\xa9", "a member of a RAID"},
    {4086, 10, "SWAPSPACE2", "swap space"},
    {512, 8, "EFI PART", "a partition table (GPT)"},
    {3, 8, "NTFS    ", "an NTFS file system"},
    {82, 8, "FAT32   ", "a FAT file system"},
    {0, 4,
     "\x7f"
     "ELF",
     "a program"},
    {0, 2, "\x1f\x8b", "a gzip file"},
    {257, 5, "ustar", "a tar archive"},
    {510, 2, "\x55\xaa", "a partition table"},
};

static int all_zero(const unsigned char *b, size_t bytes) {
    return bytes == 0 || (b[0] == 0 && memcmp(b, b + 1, bytes - 1) == 0);
}

const char *yk_ssd_foreign(const void *begin, size_t bytes) {
    if (all_zero(begin, bytes))
        return NULL;
    for (size_t i = 0; i < sizeof(signatures) / sizeof(signatures[0]); i++) {
        const struct signature *s = &signatures[i];
        if (s->at + s->len <= bytes && memcmp((const char *)begin + s->at, s->bytes, s->len) == 0)
            return s->name;
    }
    return "unknown data";
}
