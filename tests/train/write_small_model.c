/* Writes the tests' small model for tools/reference/methods.py. usage: write_small_model llama|qwen2 FILE */
#include "small_model.h"

int main(int argc, char **argv) {
    return argc == 3 && small_model_write_arch(argv[2], argv[1]) ? 0 : 1;
}
