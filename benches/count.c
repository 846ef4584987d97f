// A plugin of qemu-user: counts the guest's instructions while the bench's function `frames_measured` runs, those of what it
// calls among them. qemu has no header to build against in Debian, so what is used of it is declared here
// (docs/devel/tcg-plugins.rst in qemu's source, version 1 of the interface).
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct block;
struct instruction;
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t, void (*)(uint64_t, struct block *));
void qemu_plugin_register_vcpu_insn_exec_cb(struct instruction *, void (*)(unsigned, void *), int, void *);
void qemu_plugin_register_atexit_cb(uint64_t, void (*)(uint64_t, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct block *);
struct instruction *qemu_plugin_tb_get_insn(const struct block *, size_t);
const char *qemu_plugin_insn_symbol(const struct instruction *);
const void *qemu_plugin_insn_data(const struct instruction *);
size_t qemu_plugin_insn_size(const struct instruction *);

int qemu_plugin_version = 1;

enum kind { OTHER, WITHIN, RETURN };
static bool counting;
static uint64_t instructions;

// The function is entered and left once for each frame; whatever runs in between counts.
static void executed(unsigned processor, void *kind) {
  (void)processor;
  if (kind == (void *)WITHIN) counting = true;
  instructions += counting;
  if (kind == (void *)RETURN) counting = false;
}

static bool is_return(const struct instruction *one) {
  const uint8_t *code = qemu_plugin_insn_data(one);
  size_t size = qemu_plugin_insn_size(one);
  static const uint8_t arm64[] = {0xc0, 0x03, 0x5f, 0xd6};
  return (size == 1 && code[0] == 0xc3) || (size == 4 && !memcmp(code, arm64, 4));
}

static void translated(uint64_t id, struct block *block) {
  (void)id;
  for (size_t at = 0; at < qemu_plugin_tb_n_insns(block); at++) {
    struct instruction *one = qemu_plugin_tb_get_insn(block, at);
    const char *symbol = qemu_plugin_insn_symbol(one);
    enum kind kind = OTHER;
    if (symbol && strstr(symbol, "frames_measured")) kind = is_return(one) ? RETURN : WITHIN;
    qemu_plugin_register_vcpu_insn_exec_cb(one, executed, 0, (void *)kind);
  }
}

static void tell(uint64_t id, void *data) {
  (void)id, (void)data;
  fprintf(stderr, "instructions %llu\n", (unsigned long long)instructions);
}

int qemu_plugin_install(uint64_t id, const void *info, int count, char **arguments) {
  (void)info, (void)count, (void)arguments;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, tell, NULL);
  return 0;
}
