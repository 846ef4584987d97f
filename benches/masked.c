// For LD_PRELOAD: hides the instructions for AES and its multiplication from a program on arm64, as the processors
// of every Raspberry Pi before the 5 lack them.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/auxv.h>

unsigned long getauxval(unsigned long type) {
  unsigned long (*real)(unsigned long) = dlsym(RTLD_NEXT, "getauxval");
  unsigned long aes = 1 << 3, pmull = 1 << 4;
  return type == AT_HWCAP ? real(type) & ~(aes | pmull) : real(type);
}
