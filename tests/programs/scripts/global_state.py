"""Score sentences against a dictionary that an initializer puts into a global of each worker. fork spawn"""

import multiprocessing
import sys

WORDS = None
THRESHOLD = 0


def init(words, threshold=3):
    global WORDS, THRESHOLD
    WORDS = dict(words)
    THRESHOLD = threshold


def score(sentence):
    total = 0
    for word in sentence.split():
        value = WORDS.get(word, 0)
        if value >= THRESHOLD:
            total += value
    return sentence[:10], total


def main():
    words = [("spam", 5), ("eggs", 3), ("ham", 2), ("knight", 8)]
    sentences = ["spam spam eggs", "ham and eggs", "a knight", "nothing here", "knight spam ham"] * 8
    pool = multiprocessing.Pool(3, init, (words,))
    for name, total in pool.map(score, sentences, chunksize=3):
        print("%-10s %d" % (name, total))
    pool.close()
    pool.join()
    pool = multiprocessing.Pool(processes=2, initializer=init, initargs=(words, 6))
    print(sum(total for _, total in pool.imap(score, sentences)))
    pool.terminate()
    pool.join()
    print(WORDS, THRESHOLD)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
