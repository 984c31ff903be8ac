/* Analysis: what a word becomes in its language. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "rag/terms.h"

static tq_mem mem;

static void expect(const char *language, const char *text, const char *want) {
    tq_analyzer *a;
    tq_buf out;
    toque_error err;
    size_t count, blanks = 0;
    assert_int_equal(tq_analyzer_new(&a, &mem, language, &err), TOQUE_OK);
    tq_buf_init(&out, &mem, 1 << 20);
    assert_int_equal(tq_terms(a, text, strlen(text), &out, &count, &err), TOQUE_OK);
    assert_string_equal(out.data, want);
    for (size_t i = 0; i < out.len; i++) blanks += out.data[i] == ' ';
    assert_int_equal(count, blanks);
    tq_buf_clear(&out);
    tq_analyzer_free(a);
    assert_int_equal(mem.used, 0);
}

static void words_are_folded_stemmed_and_stopped(void **state) {
    (void)state;
    expect("", "The CAFÉ, naïve Straße; pthread_mutex 3.14", "the cafe naive strasse pthread mutex 3 14 ");
    expect("en", "the houses were running", "hous run ");
    expect("fr", "l'école d’Été qu'il a lorsqu'aujourd'hui", "ecol ete aujourd hui ");
    expect("de", "Die Häuser der Städte", "haus stadt ");
    expect("ru", "книги", "книг ");
    expect("", "数据 库", "数 据 库 ");
    expect("en", " \xcc\x81 -- !", "");
    expect("", "\xff\xfe bad \xc3", "bad ");
}

static void unknown_languages_are_refused(void **state) {
    (void)state;
    tq_analyzer *a;
    toque_error err;
    assert_int_equal(tq_analyzer_new(&a, &mem, "xx", &err), TOQUE_EINVAL);
    assert_non_null(strstr(err.message, " en "));
}

static void languages_are_told_by_their_stop_words(void **state) {
    (void)state;
    const char *const texts[][2] = {{"en", "What is the name of the file that holds it?"},
                                    {"fr", "Le fichier est dans le dossier que vous avez choisi"},
                                    {"de", "Die Datei ist nicht in dem Ordner, den Sie gewählt haben"},
                                    {"es", "El archivo no está en la carpeta que usted eligió"},
                                    {"it", "Il file non è nella cartella che hanno scelto"},
                                    {"pt", "O ficheiro não está na pasta que foi escolhida pelo senhor"},
                                    {"nl", "Het bestand is niet in de map die u heeft gekozen"},
                                    {"", "printf malloc 42"}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_string_equal(tq_detect_language(texts[i][1], strlen(texts[i][1])), texts[i][0]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_folded_stemmed_and_stopped),
        cmocka_unit_test(unknown_languages_are_refused),
        cmocka_unit_test(languages_are_told_by_their_stop_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
