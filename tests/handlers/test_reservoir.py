from voxel_ext.handlers.reservoir import Reservoir


def filled(size, count):
    kept = Reservoir(size)
    for number in range(count):
        kept.offer(lambda number=number: number)
    return kept


def test_as_many_as_fit_are_kept_and_the_same_every_time():
    assert filled(0, 5) == []
    assert filled(5, 3) == [0, 1, 2]
    assert filled(5, 100) == filled(5, 100) != [0, 1, 2, 3, 4]
    assert len(set(filled(5, 100))) == 5


def test_all_are_kept_equally_often():
    # ten blocks of 2000, one after the other
    kept = Reservoir(2000)
    for number in range(20000):
        kept.offer(lambda number=number: number // 2000)
    counts = [kept.count(block) for block in range(10)]
    assert sum(counts) == 2000
    assert all(140 < count < 260 for count in counts)  # 200 each, more than four standard deviations


def test_what_is_not_kept_is_not_made():
    made = []
    kept = Reservoir(1)
    for number in range(50):
        kept.offer(lambda number=number: made.append(number) or number)
    assert len(made) < 50
    assert kept == made[-1:]
