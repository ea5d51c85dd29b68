package klamm;

public final class ClientSuite {
    public static void main(String[] args) {}
}
