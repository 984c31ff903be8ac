/* Writes the small random model of tests/train/small_model.h for shell tests. usage: write_small_model FILE */
#include "../train/small_model.h"

int main(int argc, char **argv) {
    return argc == 2 && small_model_write(argv[1]) ? 0 : 1;
}
