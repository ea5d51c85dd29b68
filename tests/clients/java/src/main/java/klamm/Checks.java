package klamm;

import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.UUID;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Supplier;

/** Named checks that print "ok NAME" or "FAIL NAME: why", and what they say it with. */
final class Checks {
    static final String BOOTSTRAP =
            Objects.requireNonNull(System.getenv("BOOTSTRAP"), "BOOTSTRAP is not set");
    /** How many the cluster has. */
    static final int NODES = Integer.parseInt(System.getenv().getOrDefault("NODES", "1"));
    /** Of the topics that are made. */
    static final short REPLICATION_FACTOR =
            Short.parseShort(System.getenv().getOrDefault("REPLICATION_FACTOR", "1"));
    /**
     * How many times as long as on a single node something may take before it counts as stuck:
     * every node has a replica of everything, on the same machine.
     */
    static final int PATIENCE = NODES == 1 ? 1 : 4;
    private static final int CHECK_LIMIT_SECONDS = 45 * PATIENCE;

    interface Check {
        void run() throws Exception;
    }

    private record Named(String name, Check check) {}

    private final String suite;
    private final List<Named> checks = new ArrayList<>();

    Checks(String suite) {
        this.suite = suite;
    }

    void add(String name, Check check) {
        checks.add(new Named(name, check));
    }

    /** Runs everything in order; the process's exit code. */
    int run() {
        String only = Objects.requireNonNullElse(System.getenv("ONLY"), "");
        int failed = 0;
        var threads = Executors.newCachedThreadPool(task -> {
            Thread thread = new Thread(task);
            thread.setDaemon(true);
            return thread;
        });
        for (Named named : checks) {
            if (!named.name.contains(only)) {
                continue;
            }
            long started = System.nanoTime();
            Future<?> running = threads.submit(() -> {
                named.check.run();
                return null;
            });
            Throwable why = null;
            try {
                running.get(CHECK_LIMIT_SECONDS, TimeUnit.SECONDS);
            } catch (ExecutionException error) {
                why = error.getCause();
            } catch (TimeoutException error) {
                running.cancel(true);
                why = new AssertionError("still running after " + CHECK_LIMIT_SECONDS + " s");
            } catch (InterruptedException error) {
                why = error;
            }
            double took = (System.nanoTime() - started) / 1e9;
            if (why == null) {
                System.out.printf("ok %s: %s (%.1f s)%n", suite, named.name, took);
            } else {
                failed++;
                System.out.printf("FAIL %s: %s: %s%n", suite, named.name,
                        why.toString().replace('\n', ' '));
                why.printStackTrace();
            }
        }
        System.out.printf("%s: %d of %d checks failed%n", suite, failed, checks.size());
        return failed == 0 ? 0 : 1;
    }

    static String unique(String name) {
        return name + "-" + UUID.randomUUID().toString().substring(0, 13);
    }

    static void expect(Object actual, Object expected, String what) {
        if (!Objects.deepEquals(actual, expected)) {
            throw new AssertionError(
                    what + ": expected " + cut(expected) + ", got " + cut(actual));
        }
    }

    static void expectContains(String text, String part, String what) {
        if (!text.contains(part)) {
            throw new AssertionError(what + ": no \"" + part + "\" in: " + cut(text));
        }
    }

    /** Runs something that must fail, with this class of error or with one caused by it. */
    static void expectError(Class<? extends Throwable> wanted, Check check, String what) {
        try {
            check.run();
        } catch (Throwable error) {
            for (Throwable each = error; each != null; each = each.getCause()) {
                if (wanted.isInstance(each)) {
                    return;
                }
            }
            throw new AssertionError(what + ": expected " + wanted.getSimpleName(), error);
        }
        throw new AssertionError(what + " succeeded");
    }

    static <T> T eventually(String what, Supplier<T> attempt) throws InterruptedException {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(20);
        while (true) {
            T result = attempt.get();
            if (result != null && !Boolean.FALSE.equals(result)) {
                return result;
            }
            if (System.nanoTime() > deadline) {
                throw new AssertionError("not within 20 s: " + what);
            }
            Thread.sleep(50);
        }
    }

    private static String cut(Object value) {
        String text = String.valueOf(value);
        return text.length() <= 400 ? text : text.substring(0, 400) + "...";
    }
}
